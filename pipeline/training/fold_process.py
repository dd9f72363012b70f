"""Starting a fold's process and following what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pipeline
from pipeline.errors import error_for_exit_code
from pipeline.training.deadline import Deadline
from pipeline.training.run import Run
from pipeline.training.state import EpochMetrics

ALONE = ("-m", "pipeline.training.fold_worker")
_NO_ERROR, _BUG = 0, 1


@dataclass(frozen=True, slots=True)
class Task:
    """A fold of a run to train, and the cache that holds its images."""

    run: Run
    cache: Path
    number: int


OnEpoch = Callable[[Task, EpochMetrics], None]


def start_fold(
    task: Task,
    device: str,
    threads: int,
    deadline: Deadline,
    program: Sequence[str] = ALONE,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start the fold's process; `program` are Python's arguments ahead of the worker's own."""
    own = {"PYTHONPATH": import_path(), "OMP_NUM_THREADS": str(threads)}
    places = [str(path.absolute()) for path in (task.run.folder, task.cache)]
    settings = [str(task.number), device, str(threads), str(deadline.at)]
    return subprocess.Popen(
        [sys.executable, *program, *places, *settings],
        env={**os.environ, **own, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def follow_fold(process: subprocess.Popen[str], task: Task, on_epoch: OnEpoch) -> None:
    """Report the epochs as they end, until the process has ended.

    Raises:
        PipelineError: what the fold met.
    """
    errors = list[str]()
    listener = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    listener.start()
    failure: tuple[int, str] | None = None
    for line in process.stdout or ():
        message = json.loads(line)
        if "error" not in message:
            on_epoch(task, EpochMetrics(**message))
        elif failure is None:
            failure = message["exit_code"], message["error"]
    listener.join()
    code = process.wait()
    if failure is None and code != _NO_ERROR:
        last = next((line.strip() for line in reversed(errors) if line.strip()), "no message")
        failure = _BUG, f"fold {task.number} ended with code {code}: {last}"
    if failure is not None:
        raise error_for_exit_code(*failure)


def import_path() -> str:
    """Where the worker finds this package, whatever its working directory."""
    package = str(Path(pipeline.__path__[0]).parent.absolute())
    return os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
