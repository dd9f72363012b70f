"""Folds of any number of runs as tasks of a Ray cluster (LAUNCH=ray; optional extra `ray`).

Every node sees this checkout at the same path, on a shared disk: a task is given places, not data.
"""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, PipelineError
from pipeline.training.deadline import Deadline
from pipeline.training.fold_process import OnEpoch, Task, follow_fold, import_path, start_fold
from pipeline.training.launch import missing_folds
from pipeline.training.run import Run
from pipeline.training.state import EpochMetrics

_POLL_SECONDS = 0.5
_SECONDS_TO_SAVE = 60
_STOP = "stop-ray"
_RETRIES = 3


def train_on_ray(runs: Sequence[Run], cache: Path, on_epoch: OnEpoch, deadline: Deadline) -> None:
    """Train every fold that the runs lack as a task each; a lost task goes on on another node.

    Epochs are reported when their fold has ended.

    Raises:
        ConfigError: Ray is not installed, no cluster runs here, or none of its nodes has a GPU.
        PipelineError: as met by a fold; the others are stopped, their checkpoints stay.
    """
    ray = _connected_ray()
    _set_stop(runs, False)
    waiting: dict[Any, Task] = {}
    for task in missing_folds([run.absolute() for run in runs], cache.absolute()):
        cpus, gpus = _needs(ray, task.run)
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=_RETRIES)(_train)
        waiting[remote.remote(task, deadline.at, cpus)] = task
    try:
        while waiting:
            _report(ray, waiting, on_epoch)
            if deadline.stopped_by:
                deadline.check()
    finally:
        if waiting:
            _set_stop(runs, True)
            ray.wait(list(waiting), num_returns=len(waiting), timeout=_SECONDS_TO_SAVE)
            _set_stop(runs, False)


def _set_stop(runs: Sequence[Run], stop: bool) -> None:
    """Ask the tasks to save and end, or no longer; Ray's own cancelling would not wait for them."""
    for run in runs:
        if stop:
            (run.folder / _STOP).touch()
        else:
            (run.folder / _STOP).unlink(missing_ok=True)


def _report(ray: Any, waiting: dict[Any, Task], on_epoch: OnEpoch) -> None:
    """Take the folds that have ended off the list."""
    ended, _ = ray.wait(list(waiting), timeout=_POLL_SECONDS)
    for reference in ended:
        task = waiting.pop(reference)
        result = ray.get(reference)
        if isinstance(result, PipelineError):
            raise result
        for metrics in result:
            on_epoch(task, metrics)


def _connected_ray() -> Any:
    try:
        import ray
    except ImportError as err:
        raise ConfigError("LAUNCH=ray needs Ray: pip install -e '.[ray]'") from err
    try:
        ray.init(
            address="auto",
            ignore_reinit_error=True,
            log_to_driver=False,
            logging_level=logging.WARNING,
            runtime_env={"env_vars": {"PYTHONPATH": import_path()}},
        )
    except ConnectionError as err:
        raise ConfigError(
            "no Ray cluster runs here; start one with `ray start --head`, and `ray start "
            "--address=<head>` on every other machine"
        ) from err
    return ray


def _needs(ray: Any, run: Run) -> tuple[int, int]:
    """CPUs and GPUs of one fold, no more than a node has: Ray would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (int(max(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
    if run.execution.device != "cuda":
        return min(run.execution.threads, cpus), 0
    if gpus == 0:
        raise ConfigError("no node of the Ray cluster has a GPU; choose SET='device=cpu'")
    return 1, 1


def _train(task: Task, at: float, threads: int) -> list[EpochMetrics] | PipelineError:
    """On a node of the cluster: the fold in a process of its own, and the epochs it reports."""
    epochs: list[EpochMetrics] = []
    deadline = Deadline(at)
    # Of the node's GPUs a task sees the one that it was given.
    device = "cuda:0" if task.run.execution.device == "cuda" else "cpu"
    process = start_fold(task, device, threads, deadline)
    threading.Thread(target=_end_on_stop, args=(process, task.run), daemon=True).start()
    try:
        follow_fold(process, task, lambda _, metrics: epochs.append(metrics), deadline)
    except PipelineError as error:  # as a value: raised, Ray would wrap it in its own
        return error
    return epochs


def _end_on_stop(process: subprocess.Popen[str], run: Run) -> None:
    while process.poll() is None:
        if (run.folder / _STOP).exists():
            process.terminate()
        time.sleep(_POLL_SECONDS)
