"""A home folder for one client, and the removal of those that killed commands left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.artifacts import storage_errors


@contextmanager
def client_home(parent: Path) -> Iterator[Path]:
    """An empty folder in `parent`, removed at the end; this process holds a lock on it meanwhile.

    The system frees the lock of a killed process, and the next command removes the folder.

    Raises:
        StorageError: the disk is full or `parent` cannot be written.
    """
    with storage_errors(parent):
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(parent):
            _remove_abandoned(parent)
            home = Path(tempfile.mkdtemp(dir=parent))
            held = _lock(home)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)
        os.close(held)


def _remove_abandoned(parent: Path) -> None:
    for home in parent.iterdir():
        try:
            held = _lock(home, fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):  # in use, or just removed by its own command
            continue
        shutil.rmtree(home, ignore_errors=True)
        os.close(held)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    held = _lock(folder)
    try:
        yield
    finally:
        os.close(held)


def _lock(folder: Path, flags: int = 0) -> int:
    """A file descriptor of the folder that holds its lock until it is closed."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | flags)
    except BaseException:
        os.close(held)
        raise
    return held
