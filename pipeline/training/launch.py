"""Where folds train: in this process, or in processes of their own, and none waits for another."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from queue import Empty, SimpleQueue

import torch

from pipeline.data.cache import load_cache
from pipeline.training.deadline import Deadline
from pipeline.training.execution import Execution
from pipeline.training.fold import run_fold
from pipeline.training.fold_process import ALONE, OnEpoch, Task, follow_fold, start_fold
from pipeline.training.run import Run
from pipeline.training.sharing import shared_gpus
from pipeline.training.state import EpochMetrics

Launcher = Callable[[Sequence[Run], Path, OnEpoch, Deadline], None]
"""Trains every fold that the runs lack, with the images of a cache, until a deadline."""

_POLL_SECONDS = 0.5


def devices_for(execution: Execution) -> list[torch.device]:
    """Every device that may train a fold of its own: each GPU, or the CPU once."""
    if execution.device == "cuda":
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [torch.device(execution.device)]


def places_for(execution: Execution, at_once: int) -> list[torch.device]:
    """Where folds may train at the same time: no device takes two while another has none."""
    return devices_for(execution) * at_once


def train_on_devices(
    runs: Sequence[Run], cache: Path, on_epoch: OnEpoch, deadline: Deadline
) -> None:
    """Train every fold that the runs lack, on all devices of this machine.

    Raises:
        BudgetError: the deadline came first; checkpoints stay.
        ConfigError, DataError, StorageError: as met by a fold.
    """
    execution = runs[0].execution
    shares = execution.device == "cuda" and execution.folds_at_once > 1
    sharing: AbstractContextManager[Mapping[str, str] | None]
    sharing = shared_gpus() if shares else nullcontext({})
    with sharing as environment:
        places = places_for(execution, 1 if environment is None else execution.folds_at_once)
        if len(places) == 1:
            _train_here(runs, cache, places[0], on_epoch, deadline)
            return
        # Of all places: what a fold learns must not depend on how many are left to train.
        threads = max(1, execution.threads // len(places))
        workers = [
            Worker(str(place), threads, environment=environment)
            for place in places[: len(missing_folds(runs, cache))]
        ]
        train_with(workers, runs, cache, on_epoch, deadline)


def _train_here(
    runs: Sequence[Run], cache: Path, device: torch.device, on_epoch: OnEpoch, deadline: Deadline
) -> None:
    data = load_cache(cache)
    for task in missing_folds(runs, cache):
        task.run.execution.prepare_process()
        run_fold(task.run, data, task.number, device, _of_task(on_epoch, task), deadline)


def _of_task(on_epoch: OnEpoch, task: Task) -> Callable[[EpochMetrics], None]:
    return lambda metrics: on_epoch(task, metrics)


def missing_folds(runs: Sequence[Run], cache: Path) -> list[Task]:
    """Every fold that is not trained yet."""
    return [Task(run, cache, number) for run in runs for number in run.missing_folds()]


class Worker:
    """A device, or several together, and the process that trains a fold there."""

    def __init__(
        self,
        device: str,
        threads: int,
        program: Sequence[str] = ALONE,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.device, self.threads, self.program = device, threads, program
        self.environment = environment or {}
        self.process: subprocess.Popen[str] | None = None
        self.stopped = False
        self._begins_or_stops = threading.Lock()

    def train_from(self, waiting: SimpleQueue[Task], on_epoch: OnEpoch, deadline: Deadline) -> None:
        """Train one waiting fold after the other."""
        while begun := self._begin(waiting, deadline):
            process, task = begun
            follow_fold(process, task, on_epoch, deadline)

    def _begin(
        self, waiting: SimpleQueue[Task], deadline: Deadline
    ) -> tuple[subprocess.Popen[str], Task] | None:
        """The process of the next waiting fold, unless there is none or the worker is stopped."""
        with self._begins_or_stops:  # else a fold that begins just then would not hear of it
            if self.stopped:
                return None
            try:
                task = waiting.get_nowait()
            except Empty:
                return None
            self.process = start_fold(
                task, self.device, self.threads, deadline, self.program, self.environment
            )
            return self.process, task

    def stop(self) -> None:
        """Let the fold in training save its state and end, and begin no other."""
        with self._begins_or_stops:
            self.stopped = True
            if self.process is not None:
                self.process.terminate()


def train_with(
    workers: Sequence[Worker],
    runs: Sequence[Run],
    cache: Path,
    on_epoch: OnEpoch,
    deadline: Deadline,
) -> None:
    """Train every fold that the runs lack with the workers; the first failure stops them all.

    Raises:
        BudgetError: the deadline came first; checkpoints stay.
        PipelineError: as met by a fold.
    """
    waiting: SimpleQueue[Task] = SimpleQueue()
    for task in missing_folds(runs, cache):
        waiting.put(task)
    with ThreadPoolExecutor(len(workers)) as pool:
        turns = [pool.submit(worker.train_from, waiting, on_epoch, deadline) for worker in workers]
        try:
            failed = _first_failure(turns, deadline)
        except KeyboardInterrupt:
            deadline.stopped_by = "SIGINT came"
            raise
        finally:  # the pool would wait for every fold
            for worker in workers:
                worker.stop()
    for turn in [failed, *turns] if failed else turns:
        turn.result()
    if missing_folds(runs, cache):  # the signal came between two folds
        deadline.check()


def _first_failure(turns: Sequence[Future[None]], deadline: Deadline) -> Future[None] | None:
    """Wait until all turns are done, one has failed, or a signal came."""
    done: set[Future[None]] = set()
    while len(done) < len(turns) and not deadline.stopped_by:
        done = wait(turns, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION).done
        for turn in done:
            if turn.exception():
                return turn
    return None
