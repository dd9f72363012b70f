"""A command in a process of its own that is killed at a chosen moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.stages.forking import start_fork


def run_and_kill(
    target: Callable[..., object], arguments: tuple[Any, ...], when: Callable[[], bool]
) -> None:
    """Call the target in another process and SIGKILL it `when` it has come that far."""
    process = start_fork(target, *arguments)
    assert process.pid is not None
    kill_when(process.pid, process.is_alive, when)
    process.join()


def kill_when(pid: int, is_alive: Callable[[], bool], when: Callable[[], bool]) -> None:
    """SIGKILL a process `when` it has come that far, and wait until its own children are gone.

    The client's process must not go on with a call that nobody records.
    """
    while not when():
        assert is_alive()
        time.sleep(0.02)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)
