"""Learning rate schedules by name; each scales the rate of every group of an optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from pipeline.errors import ConfigError

ONE_CYCLE = "one-cycle"
# What is left of the peak rate at `t`, which goes from 0 at the end of the rise to 1 at the end.
_FALLS: dict[str, Callable[[float], float]] = {
    "linear": lambda t: 1 - t,
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
    "constant": lambda t: 1.0,
}
# torch's formula divides by the number of steps of either phase.
_SHORTEST_RISE = 2
_SHORTEST_CYCLE = 4


def make_schedule(name: str, optimizer: Optimizer, steps: int, warmup: float) -> LRScheduler:
    """The schedule `name`, for one call of its `step` after each of `steps` optimiser steps.

    The optimiser's rates as they are now are the peak. All but `one-cycle` rise to it linearly
    from the first step on.

    Args:
        name: one of `schedule_names`.
        optimizer: what it scales.
        steps: of the whole training.
        warmup: the fraction of the steps that rise, from 0 to below 1.

    Raises:
        ConfigError: no schedule has that name.
    """
    if name not in schedule_names():
        raise ConfigError(
            f"schedule={name!r} is unknown; choose from {', '.join(schedule_names())}"
        )
    if name == ONE_CYCLE:
        return _one_cycle(optimizer, steps, warmup)
    return LambdaLR(optimizer, _rise_and_fall(steps, warmup, _FALLS[name]))


def schedule_names() -> list[str]:
    """Every name that `make_schedule` accepts."""
    return sorted([ONE_CYCLE, *_FALLS])


def _rise_and_fall(
    steps: int, warmup: float, fall: Callable[[float], float]
) -> Callable[[int], float]:
    """The factor of the peak rate by step; the first step trains already, the last one still."""
    peak = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < peak:
            return (step + 1) / peak
        return fall(min(1.0, (step - peak) / max(1, steps - peak)))

    return factor


def _one_cycle(optimizer: Optimizer, steps: int, warmup: float) -> LRScheduler:
    """Smith and Topin 2017, arXiv:1708.07120, as torch has it.

    The rate goes up from 1/25 of the peak and down to nearly nothing in two half cosines; the
    momentum, or Adam's β₁, goes from 0.95 to 0.85 and back.
    """
    cycle = max(steps, _SHORTEST_CYCLE)
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=cycle,
        pct_start=max(warmup, _SHORTEST_RISE / cycle),
    )
