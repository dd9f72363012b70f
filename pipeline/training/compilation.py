"""Whether `torch.compile` pays and works here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from pipeline.training.cpu import cpu_flags

Function = TypeVar("Function", bound=Callable[..., object])
# Compiling takes half a minute; on two cores that is what it saves on this many pixels. Where the
# processor has no AMX, convolutions take most of a step, and compiling leaves them as they are. On
# an H200 it takes 22 s and saves 15 % of a replayed epoch.
PAYING_PIXELS = {"cpu with AMX": 3e8, "cpu": 3e9, "cuda": 8e9}


def compile_decision(device: str, pixels: float, *, native_norms: bool = False) -> tuple[bool, str]:
    """Whether to compile for a run that trains on so many pixels in all, with the reason."""
    if native_norms:
        return False, "with native norms a compiled step is no faster"
    kind = "cpu with AMX" if device == "cpu" and "amx_bf16" in cpu_flags() else device
    if pixels < PAYING_PIXELS[kind]:
        return False, f"{pixels:.1e} pixels to train on: compiling would take longer than it saves"
    problem = _problem(device)
    return problem is None, problem or f"{pixels:.1e} pixels to train on"


def _problem(device: str) -> str | None:
    """Why a tiny network's forward and backward pass does not compile; None if it does."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).to(device)

    def loss(x: Tensor) -> Tensor:
        return net(x).sum()  # type: ignore[no-any-return]

    try:
        torch.compile(loss, dynamic=False)(torch.zeros(1, 1, 4, 4, device=device)).backward()
    except RuntimeError as err:  # no compiler, or an unsupported device
        return f"torch.compile does not work here ({type(err).__name__}: {_first_line(err)})"
    return None


def _first_line(err: Exception) -> str:
    return next(iter(str(err).strip().splitlines()), "no message")


def compiled(function: Function) -> Function:
    """`function` compiled for fixed shapes: one program per image size."""
    return torch.compile(function, dynamic=False)  # type: ignore[return-value]
