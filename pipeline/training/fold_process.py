"""Starting a fold's process and following what it prints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

import pipeline
from pipeline.errors import BudgetError, error_for_exit_code
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
        errors="replace",
    )


def follow_fold(
    process: subprocess.Popen[str], task: Task, on_epoch: OnEpoch, deadline: Deadline
) -> None:
    """Report the epochs as they end, and show what else is said, until the process has ended.

    Raises:
        BudgetError: it was stopped, even if that was before it could save anything.
        PipelineError: what the fold met.
    """
    told = _Told(task, deadline)
    listener = threading.Thread(target=told.show, args=(process.stderr or (),), daemon=True)
    listener.start()
    for line in process.stdout or ():
        message = json.loads(line)
        if "error" not in message:
            on_epoch(task, EpochMetrics(**message))
        elif told.failure is None:  # of processes that train together the first met the cause
            told.failure = message["exit_code"], message["error"]
    listener.join()
    failure = told.failure or told.failure_of_end(process.wait())
    if failure is not None:
        raise error_for_exit_code(*failure)


@dataclass(slots=True)
class _Told:
    """What a fold's process has told so far; a failure is an exit code and a message."""

    task: Task
    deadline: Deadline
    failure: tuple[int, str] | None = None
    errors: list[str] = field(default_factory=list)

    def show(self, errors: Iterable[str]) -> None:
        """Pass on what the process says on the error stream, under the fold's name."""
        name = f"{self.task.run.folder.name} fold {self.task.number}"
        for line in filter(None, map(str.rstrip, errors)):
            self.errors.append(line)
            if not self._has_a_known_end():  # else only torchrun speaks, at length
                tqdm.write(f"{name}: {line}", file=sys.stderr)

    def _has_a_known_end(self) -> bool:
        failed = self.failure is not None and self.failure[0] != _BUG
        return failed or self.deadline.stopped_by is not None

    def failure_of_end(self, code: int) -> tuple[int, str] | None:
        """What it means that the process ended with `code` and told no failure."""
        if code == _NO_ERROR:
            return None
        number = self.task.number
        if self.deadline.stopped_by or code == -signal.SIGTERM:
            why = self.deadline.stopped_by or "SIGTERM came"
            told = f"{why} before fold {number} saved anything new; rerun to continue"
            return BudgetError.exit_code, told
        lines = (line.strip() for line in reversed(self.errors) if any(map(str.isalpha, line)))
        return _BUG, f"fold {number} ended with code {code}: {next(lines, 'no message')}"


def import_path() -> str:
    """Where the worker finds this package, whatever its working directory."""
    package = str(Path(pipeline.__path__[0]).parent.absolute())
    return os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
