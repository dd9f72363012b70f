"""A run's folds on the devices of the machine: a process per GPU, and none waits for another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import Empty, SimpleQueue

import torch

import pipeline
from pipeline.data.cache import load_cache
from pipeline.errors import error_for_exit_code
from pipeline.training.deadline import Deadline
from pipeline.training.execution import Execution
from pipeline.training.fold import run_fold
from pipeline.training.run import Run
from pipeline.training.state import EpochMetrics

_POLL_SECONDS = 0.5
OnEpoch = Callable[[int, EpochMetrics], None]


def devices_for(execution: Execution) -> list[torch.device]:
    """Every device that may train a fold of its own: each GPU, or the CPU once."""
    if execution.device == "cuda":
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [torch.device(execution.device)]


def train_missing_folds(
    run: Run,
    cache: Path,
    devices: Sequence[torch.device],
    on_epoch: OnEpoch,
    deadline: Deadline,
) -> None:
    """Train every fold that the run lacks; `on_epoch` sees (fold, metrics) as epochs end.

    Raises:
        BudgetError: the deadline came first; checkpoints stay.
        ConfigError, DataError, StorageError: as met by a fold.
    """
    missing = run.missing_folds()
    if len(devices) == 1:
        run.execution.prepare_process()
        data = load_cache(cache)
        for number in missing:
            run_fold(run, data, number, devices[0], _of_fold(on_epoch, number), deadline)
        return
    waiting: SimpleQueue[int] = SimpleQueue()
    for number in missing:
        waiting.put(number)
    workers = [_Worker(run, cache, device, len(devices)) for device in devices]
    with ThreadPoolExecutor(len(devices)) as pool:
        turns = [pool.submit(worker.train_from, waiting, on_epoch, deadline) for worker in workers]
        failed = _first_failure(turns, deadline)
        for worker in workers:
            worker.stop()
    for turn in [failed, *turns] if failed else turns:
        turn.result()


def _first_failure(turns: Sequence[Future[None]], deadline: Deadline) -> Future[None] | None:
    """Wait until all turns are done, one has failed, or a signal came."""
    done: set[Future[None]] = set()
    while len(done) < len(turns) and not deadline.stopped_by:
        done = wait(turns, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION).done
        for turn in done:
            if turn.exception():
                return turn
    return None


def _of_fold(on_epoch: OnEpoch, number: int) -> Callable[[EpochMetrics], None]:
    return lambda metrics: on_epoch(number, metrics)


class _Worker:
    """A device, and the process that trains a fold on it."""

    def __init__(self, run: Run, cache: Path, device: torch.device, workers: int) -> None:
        self.run, self.cache, self.device = run, cache, device
        self.threads = max(1, run.execution.threads // workers)
        self.process: subprocess.Popen[str] | None = None
        self.stopped = False

    def train_from(self, waiting: SimpleQueue[int], on_epoch: OnEpoch, deadline: Deadline) -> None:
        """Train one waiting fold after the other."""
        while not self.stopped:
            try:
                number = waiting.get_nowait()
            except Empty:
                return
            self._train(number, on_epoch, deadline)

    def stop(self) -> None:
        """Let the fold in training save its state and end, and begin no other."""
        self.stopped = True
        if self.process is not None:
            self.process.terminate()

    def _train(self, number: int, on_epoch: OnEpoch, deadline: Deadline) -> None:
        """One fold in a process, which prints the metrics of each epoch as a JSON line."""
        places = [str(path.absolute()) for path in (self.run.folder, self.cache)]
        settings = [str(number), str(self.device), str(self.threads), str(deadline.at)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.training.fold_worker", *places, *settings],
            env={**os.environ, "PYTHONPATH": _import_path()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        process, errors = self.process, list[str]()
        listener = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
        listener.start()
        for line in process.stdout or ():
            on_epoch(number, EpochMetrics(**json.loads(line)))
        listener.join()
        if process.wait():
            last = next((line.strip() for line in reversed(errors) if line.strip()), "no message")
            message = last if process.returncode > 1 else f"fold {number} on {self.device}: {last}"
            raise error_for_exit_code(process.returncode, message)


def _import_path() -> str:
    """Where the worker finds this package, whatever its working directory."""
    package = str(Path(pipeline.__path__[0]).parent.absolute())
    return os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
