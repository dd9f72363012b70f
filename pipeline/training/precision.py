"""The number format of a device, by rule, with the reason."""

from __future__ import annotations

from typing import Any

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def precision_for(capability: tuple[int, int]) -> tuple[str, str]:
    """Number format by CUDA compute capability; a T4 claims bf16 but only emulates it."""
    name = f"compute capability {capability[0]}.{capability[1]}"
    if capability >= (8, 0):
        return "bf16", f"{name} has bf16 tensor cores"
    if capability >= (7, 0):
        return "fp16", f"{name}: fp16 with a gradient scaler, bf16 would be emulated"
    return "fp32", f"{name} is older than tensor cores"


def cpu_precision() -> tuple[str, str]:
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
