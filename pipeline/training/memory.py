"""How much memory a training process has needed, and what is said where there is too little."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import ConfigError

_KIBIBYTE = 1024
_UNIT = 1 if sys.platform == "darwin" else _KIBIBYTE
_STATUS = Path("/proc/self/status")


def peak_memory(device: torch.device) -> int:
    """The most bytes so far: of a GPU by tensors, of a CPU all that this process held in memory.

    The peak is that of the process: where it trains fold after fold, a later fold's includes those
    before it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident_memory()


def peak_resident_memory() -> int:
    """The most bytes that this process held in memory."""
    # On Linux getrusage's peak includes that of the process that started this one.
    told = _STATUS.read_text() if _STATUS.is_file() else ""
    found = re.search(r"^VmHWM:\s+(\d+) kB", told, re.MULTILINE)
    if found:
        return int(found[1]) * _KIBIBYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def too_little_memory(images: Tensor, at_once: int) -> ConfigError:
    """The error of a GPU that cannot hold what `at_once` of `images` [N, H, W, C] need."""
    return ConfigError(
        f"out of memory with {at_once} images of {'x'.join(map(str, images.shape[1:]))} at once; "
        "choose a smaller size or batch"
    )
