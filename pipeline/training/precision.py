"""Device and number format: decided once per run, with the reason, and stored with it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """Where and in which number format a run computes."""

    device: str
    precision: str
    reason: str

    def is_available(self) -> bool:
        """Whether this machine has the device."""
        return self.device != "cuda" or torch.cuda.is_available()

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which forward passes run."""
        kind = torch.device(self.device).type
        dtype = _DTYPES[self.precision]
        return torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        """A gradient scaler; it does nothing unless the format is fp16."""
        kind = torch.device(self.device).type
        return torch.amp.GradScaler(kind, enabled=self.precision == "fp16")


def choose_execution() -> Execution:
    """The best execution for this machine, with the reason."""
    if torch.cuda.is_available():
        precision, reason = precision_for(torch.cuda.get_device_capability())
        return Execution(device="cuda", precision=precision, reason=reason)
    precision, reason = _cpu_precision()
    return Execution(device="cpu", precision=precision, reason=reason)


def precision_for(capability: tuple[int, int]) -> tuple[str, str]:
    """Number format by compute capability; a T4 claims bf16 but only emulates it."""
    name = f"compute capability {capability[0]}.{capability[1]}"
    if capability >= (8, 0):
        return "bf16", f"{name} has bf16 tensor cores"
    if capability >= (7, 0):
        return "fp16", f"{name}: fp16 with a gradient scaler, bf16 would be emulated"
    return "fp32", f"{name} is older than tensor cores"


def _cpu_precision() -> tuple[str, str]:
    """bf16 where the processor multiplies in it, by its flags.

    Not by timing: on a busy machine that says one thing now and another later, and with it would
    change every byte of the result.
    """
    # Before torch 2.11 there is no public way to ask.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    for flag in ("amx_bf16", "avx512_bf16"):
        if capabilities.get(flag):
            return "bf16", f"the CPU has {flag}"
    return "fp32", "the CPU does not report bf16 arithmetic"
