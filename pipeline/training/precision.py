"""The number format of a device, by rule, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.convs import KernelConv
from pipeline.training.cpu import cpu_flags

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
    for flag in ("amx_bf16", "avx512_bf16"):
        if flag in cpu_flags():
            return "bf16", f"the CPU has {flag}"
    return "fp32", "the CPU does not report bf16 arithmetic"


def convs_on_tiny_images(model: nn.Module, images: Tensor) -> list[str]:
    """The paths of the convolutions whose kernel is at least twice as long as a side of its image.

    As 3 x 3 is on single pixels, and on rows of them. torch 2.15's CPU library computes their bf16
    weight gradients from memory that it has not written (seen on an AMD EPYC with avx512_bf16):
    sometimes they are right, sometimes not numbers.

    Args:
        model: in training or not; it stays as it is.
        images: a few as it takes them, of the smallest size that it will be trained on.
    """
    found: list[str] = []

    def look(path: str) -> Any:
        def note(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if _is_tiny(inputs[0].shape[2:], conv):
                found.append(path)

        return note

    parts = [(path, part) for path, part in model.named_modules() if _is_conv(part)]
    hooks = [part.register_forward_hook(look(path)) for path, part in parts]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(images)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found


def _is_conv(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | KernelConv)


def _is_tiny(spatial: Sequence[int], conv: Any) -> bool:
    sides = zip(spatial, conv.kernel_size, conv.dilation, strict=True)
    return any(2 * side <= dilation * (kernel - 1) + 1 for side, kernel, dilation in sides)
