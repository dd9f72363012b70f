"""Processes of their own that need not import everything first."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from typing import Any

# Forked from a process that has imported much, runs no threads and is otherwise as Python starts.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "pipeline.commands",
        "pipeline.stages.chain",
        "pipeline.stages.push",
        "tests.stages.stand_in",
        "sklearn.model_selection",
        "torch._dynamo",
    ]
)


def start_fork(
    target: Callable[..., object], *arguments: Any, environment: dict[str, str] | None = None
) -> ForkServerProcess:
    """Call the target in a new process, which has this one's environment or the given one."""
    given = dict(os.environ) if environment is None else environment
    process = _SERVER.Process(target=_in_environment, args=(given, target, arguments))
    process.start()
    return process


def _in_environment(
    environment: dict[str, str], target: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    """Not in that of the test that happened to start the server which forks."""
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.set_start_method(None, force=True)  # what it starts starts as it does elsewhere
    target(*arguments)
