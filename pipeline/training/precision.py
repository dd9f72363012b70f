"""Device and number format: decided once per run, with the reason, and stored with it."""

from __future__ import annotations

import statistics
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """Where and in which number format a run computes."""

    device: str
    precision: str
    reason: str

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


def _cpu_precision(required_gain: float = 1.2) -> tuple[str, str]:
    """bf16 where a convolution trains faster in it than in fp32 (AMX, AVX512-BF16)."""
    gain = _conv_milliseconds("fp32") / _conv_milliseconds("bf16")
    reason = f"CPU, bf16 convolutions train {gain:.1f} x as fast as fp32"
    return ("bf16" if gain >= required_gain else "fp32"), reason


def _conv_milliseconds(precision: str, repeats: int = 7) -> float:
    """Median time of a small convolution's forward and backward pass."""
    conv = nn.Conv2d(32, 32, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.ones(64, 32, 16, 16).to(memory_format=torch.channels_last)
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=_DTYPES[precision], enabled=precision != "fp32"):
            loss = conv(x).float().sum()
        loss.backward()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[2:])
