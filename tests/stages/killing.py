"""A command in a process of its own that is killed at a chosen moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Its children have everything imported and no threads: a fresh process each, in no time.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pipeline.stages.push", "tests.stages.stand_in"])


def run_and_kill(
    target: Callable[..., object], arguments: tuple[Any, ...], when: Callable[[], bool]
) -> None:
    """Call the target in another process and SIGKILL it `when` it has come that far."""
    environment = dict(os.environ)
    process = FORKS.Process(target=_in_environment, args=(environment, target, arguments))
    process.start()
    assert process.pid is not None
    kill_when(process.pid, process.is_alive, when)
    process.join()


def _in_environment(
    environment: dict[str, str], target: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    """Not in that of the test that happened to start the server which forks."""
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)


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
