"""Keeps two commands in one checkout apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.artifacts import storage_errors
from pipeline.errors import BusyError
from pipeline.workspace import Workspace


@contextmanager
def only_command(workspace: Workspace) -> Iterator[None]:
    """Hold the checkout's lock; the system frees it when this process ends, however it ends.

    Raises:
        BusyError: another command holds it; names its process where that is known.
        StorageError: the lock file cannot be written.
    """
    holder = workspace.lock.with_name(f"{workspace.lock.name}.pid")
    lock = FileLock(workspace.lock)
    with storage_errors(workspace.lock):
        workspace.lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise BusyError(
                f"another command{_process(holder)} works in {workspace.root.absolute()}; "
                "wait until it ends and rerun"
            ) from None
    try:
        with storage_errors(holder):
            holder.write_text(str(os.getpid()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _process(holder: Path) -> str:
    try:
        return f" (process {int(holder.read_text())})"
    except (OSError, ValueError):  # not written yet, or just removed
        return ""
