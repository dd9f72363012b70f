"""What executions cost in memory while training, and the fastest ones that a budget allows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from pipeline.convs.conv import KernelConv
from pipeline.convs.memory import Timings

# Folded stays unless another one is faster by more than noise.
_MARGIN = 0.95
# These keep the tensors between the small convolutions for the backward pass.
_KEEP_INNER = ("factored", "linear")
# fp32 values that an optimiser with momentum holds per parameter: itself, gradient, momentum.
_BYTES_PER_PARAMETER = 12


class Call(NamedTuple):
    """How a network calls one of its convolutions: all that its speed depends on."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    autocast: torch.dtype | None
    input_gradient: bool
    training: bool


def fastest(timings: Timings, without: Sequence[str] = ()) -> str:
    """The fastest execution that is not in `without`; folded on a tie."""
    allowed = {name: ms for name, ms in timings.items() if name not in without}
    best = min(allowed, key=allowed.__getitem__)
    return best if allowed[best] < _MARGIN * allowed["folded"] else "folded"


def inner_bytes(conv: KernelConv, call: Call) -> int:
    """Bytes of the tensors between the small convolutions of one call."""
    x = torch.empty(call.shape, device="meta", dtype=call.dtype)
    elements = 0
    for step in conv.factors().chain()[:-1]:
        weight = torch.empty_like(step.weight, device="meta", dtype=call.dtype)
        x = step._replace(weight=weight, bias=None)(x)
        elements += x.numel()
    return elements * (call.autocast or call.dtype).itemsize


def saved_bytes(convs: Sequence[KernelConv]) -> int:
    """Bytes that training saves because the convolutions have fewer weights than standard ones."""
    return sum(
        _BYTES_PER_PARAMETER
        * (
            conv.in_channels * conv.out_channels * math.prod(conv.kernel_size)
            - sum(weight.numel() for weight in conv.factors().weights())
        )
        for conv in convs
    )


def fit_memory(
    choices: dict[str, str],
    timings: Mapping[str, Timings],
    kept: Mapping[str, int],
    budget: int,
) -> None:
    """Change `choices` until those that keep inner tensors keep at most `budget` bytes.

    Given up first is what loses the least time per byte.
    """
    keeping = [path for path, name in choices.items() if name in _KEEP_INNER]
    lean = {path: fastest(timings[path], without=_KEEP_INNER) for path in keeping}
    lost = {path: timings[path][lean[path]] - timings[path][choices[path]] for path in keeping}
    for path in sorted(keeping, key=lambda path: lost[path] / max(1, kept[path])):
        if sum(kept[each] for each in keeping) <= budget:
            return
        keeping.remove(path)
        choices[path] = lean[path]
