"""How much memory a training process has needed."""

from __future__ import annotations

import resource
import sys

import torch

_UNIT = 1 if sys.platform == "darwin" else 1024


def peak_memory(device: torch.device) -> int:
    """The most bytes so far: of a GPU by tensors, of a CPU all that this process held in memory.

    The peak is that of the process: where it trains fold after fold, a later fold's includes those
    before it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
