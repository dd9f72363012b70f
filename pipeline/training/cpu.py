"""What the processor offers a training process: cores to use, and memory that stays warm."""

from __future__ import annotations

import ctypes
import math
import os
from pathlib import Path
from typing import Any

import torch

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 2**25  # glibc refuses more


def cpu_flags() -> set[str]:
    """The instruction sets that torch sees, such as amx_bf16."""
    # Before torch 2.11 there is no public way to ask.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return {name for name, has in capabilities.items() if has}


def usable_threads() -> tuple[int, str]:
    """How many threads compute, with the reason.

    torch counts the cores of the machine; a container may be allowed fewer, and threads beyond
    that wait for each other.
    """
    cores = torch.get_num_threads()
    quota = _quota_cores()
    if quota is not None and quota < cores:
        return quota, f"the container's quota; the machine has {cores} cores"
    return cores, "one per core"


def _quota_cores() -> int | None:
    try:
        quota, period = _QUOTA.read_text().split()
        return None if quota == "max" else max(1, math.floor(int(quota) / int(period)))
    except (OSError, ValueError):  # no cgroup of version 2: no quota that could be read
        return None


def keep_freed_memory() -> bool:
    """Let the C library keep large blocks that are freed, instead of giving them back.

    Every training step allocates and frees the same activations. Given back, each comes as pages
    that the kernel must zero again: measured, a fifth of the step. Returns whether this C library
    can do it (glibc).
    """
    if os.name != "posix":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    return bool(kept and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
