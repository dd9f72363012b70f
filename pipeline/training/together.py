"""How many folds of a small network a large GPU trains at the same time."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.training.execution import Execution
from pipeline.training.recipes import Recipe

# On an H200 (132 multiprocessors), batches of 128 images of 32 x 32 pixels: five replayed steps on
# five streams take 2.4 times as little as in turn, two 1.5 times.
MOST_AT_ONCE = 5
_LARGE_GPU = 100
_SMALL_BATCH = 128 * 64 * 64


def folds_at_once(
    execution: Execution,
    model: nn.Module,
    recipe: Recipe,
    images: torch.Size,
    folds: int,
    asked: int | None = None,
) -> tuple[int, str]:
    """The number, and the reason.

    Threads share the random stream of a device, so a network that draws there trains alone.

    Args:
        images: shape [N, H, W, C] of those that a fold trains on.
        asked: what the user wants.
    """
    if execution.device != "cuda":
        return 1, f"a {execution.device} is filled by one"
    problem = _problem(execution, model)
    if problem:
        return 1, problem
    if asked is not None:
        return asked, "asked for"
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    pixels = recipe.batch_for(images[0]) * images[1] * images[2]
    if processors < _LARGE_GPU or pixels > _SMALL_BATCH:
        return 1, f"one fills {processors} multiprocessors with {pixels} pixels a batch"
    at_once = min(folds, MOST_AT_ONCE)
    return at_once, f"one leaves most of {processors} multiprocessors idle"


def _problem(execution: Execution, model: nn.Module) -> str | None:
    if not execution.graphs:
        return "the host is busy with launching the kernels of one"
    if execution.compile:
        return "compiled steps are not made for threads"
    drawing = [name for name, part in model.named_modules() if _draws(part)]
    return f"{drawing[0]} draws from the device's random stream" if drawing else None


def _draws(module: nn.Module) -> bool:
    """Dropout of any kind, also timm's DropPath."""
    if not type(module).__name__.startswith("Drop"):
        return False
    return any((getattr(module, name, 0) or 0) > 0 for name in ("p", "drop_prob"))
