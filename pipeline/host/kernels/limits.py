"""How much a session may use, and the watch over it.

The kernel's own limits (setrlimit) hold for single processes and not for what root starts; so the
host also looks at all processes of a session together, several times a second.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

_FREE_DISK_TO_LEAVE = 2**30
_SMALLEST_FILE = 4096


def _most_of_the_memory() -> int:
    return int(psutil.virtual_memory().total) * 3 // 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits of one session: wall-clock seconds; bytes of memory and of disk; processes."""

    seconds: float = 12 * 3600
    memory: int = field(default_factory=_most_of_the_memory)
    disk: int = 20 * 2**30
    processes: int = 4096

    def shortened(self, seconds: int | None) -> Limits:
        """These limits, with a shorter time where one was asked for."""
        return replace(self, seconds=min(self.seconds, seconds)) if seconds else self

    def as_rlimits(self) -> dict[str, int]:
        """The limits that the kernel itself can hold each process to."""
        return {
            "RLIMIT_CORE": 0,
            "RLIMIT_CPU": int(self.seconds * (os.cpu_count() or 1)) + 1,
            "RLIMIT_DATA": self.memory,
            "RLIMIT_FSIZE": self.disk,
            "RLIMIT_NPROC": self.processes,
        }


class Watch:
    """Compares a running session with its limits."""

    def __init__(self, limits: Limits, first_process: int, scratch: Path) -> None:
        self._limits = limits
        self._first_process = first_process
        self._scratch = scratch
        self._deadline = time.monotonic() + limits.seconds

    def exceeded(self) -> str | None:
        """What the session used too much of, or None."""
        limits = self._limits
        if time.monotonic() > self._deadline:
            return f"it ran longer than {limits.seconds:.0f} s"
        processes = self._processes()
        if len(processes) > limits.processes:
            return f"it started more than {limits.processes} processes"
        if _use_more_than(limits.memory, processes):
            return f"it used more than {_mebibytes(limits.memory)} of memory"
        if _uses_more_than(limits.disk, self._scratch):
            return f"it wrote more than {_mebibytes(limits.disk)}"
        if shutil.disk_usage(self._scratch).free < _FREE_DISK_TO_LEAVE:
            return f"less than {_mebibytes(_FREE_DISK_TO_LEAVE)} of the host's disk is free"
        return None

    def _processes(self) -> list[psutil.Process]:
        # Orphans of a process namespace become children of its first process.
        with suppress(psutil.NoSuchProcess):
            return list(psutil.Process(self._first_process).children(recursive=True))
        return []


def _use_more_than(limit: int, processes: list[psutil.Process]) -> bool:
    """Whether the processes together hold more than `limit` bytes of memory."""
    # The resident size counts shared pages for every process, but takes no walk through them.
    if sum(_memory(process, "rss") for process in processes) <= limit:
        return False
    return sum(_memory(process, "pss") for process in processes) > limit


def _memory(process: psutil.Process, kind: str) -> int:
    with suppress(psutil.NoSuchProcess):
        sizes = process.memory_info() if kind == "rss" else process.memory_full_info()
        return int(getattr(sizes, kind))
    return 0


def _uses_more_than(limit: int, folder: Path) -> bool:
    """Whether the files take more than `limit` bytes; stops counting there."""
    used = 0
    folders = [str(folder)]
    while folders:
        # The session may remove a folder, or close it to a host that does not run as root.
        with suppress(FileNotFoundError, PermissionError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                used += _size(entry)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                if used > limit:
                    return True
    return False


def _size(entry: os.DirEntry[str]) -> int:
    with suppress(FileNotFoundError):
        return max(entry.stat(follow_symlinks=False).st_blocks * 512, _SMALLEST_FILE)
    return 0


def _mebibytes(count: int) -> str:
    return f"{count // 2**20} MiB"
