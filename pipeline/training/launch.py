"""A run's folds on the devices of the machine: a process per GPU, and none waits for another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue

import torch

import pipeline
from pipeline.data.cache import load_cache
from pipeline.errors import error_for_exit_code
from pipeline.training.deadline import Deadline
from pipeline.training.fold import run_fold
from pipeline.training.loop import EpochMetrics
from pipeline.training.precision import Execution
from pipeline.training.run import Run

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
        DataError, StorageError: as met by a fold.
    """
    missing = run.missing_folds()
    if len(devices) == 1:
        data = load_cache(cache)
        for number in missing:
            run_fold(run, data, number, devices[0], _of_fold(on_epoch, number), deadline)
        return
    waiting: SimpleQueue[int] = SimpleQueue()
    for number in missing:
        waiting.put(number)
    failed = threading.Event()

    def work(device: torch.device) -> None:
        try:
            while not failed.is_set():
                _train_in_process(run, cache, waiting.get_nowait(), device, on_epoch, deadline)
        except Empty:
            return
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(len(devices)) as pool:
        list(pool.map(work, devices))


def _of_fold(on_epoch: OnEpoch, number: int) -> Callable[[EpochMetrics], None]:
    return lambda metrics: on_epoch(number, metrics)


def _train_in_process(
    run: Run,
    cache: Path,
    number: int,
    device: torch.device,
    on_epoch: OnEpoch,
    deadline: Deadline,
) -> None:
    """One fold in a process of its own, which prints the metrics of each epoch as a JSON line."""
    paths = [str(run.folder.absolute()), str(cache.absolute())]
    arguments = [*paths, str(number), str(device), str(deadline.at)]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.training.fold_worker", *arguments],
        env={**os.environ, "PYTHONPATH": _import_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    errors: list[str] = []
    listener = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    listener.start()
    for line in process.stdout or ():
        on_epoch(number, EpochMetrics(**json.loads(line)))
    listener.join()
    if process.wait():
        last = next((line.strip() for line in reversed(errors) if line.strip()), "no message")
        message = last if process.returncode > 1 else f"fold {number} on {device}: {last}"
        raise error_for_exit_code(process.returncode, message)


def _import_path() -> str:
    """Where the worker finds this package, whatever its working directory."""
    package = str(Path(pipeline.__path__[0]).parent.absolute())
    return os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
