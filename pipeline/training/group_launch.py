"""Folds one after the other, each on all devices of this machine at once (LAUNCH=ddp)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.training.deadline import Deadline
from pipeline.training.execution import Execution
from pipeline.training.fold_process import ALONE, OnEpoch
from pipeline.training.launch import Worker, train_with
from pipeline.training.run import Run

TORCHRUN = ("-m", "torch.distributed.run", "--standalone")


def train_in_groups(
    runs: Sequence[Run], cache: Path, on_epoch: OnEpoch, deadline: Deadline
) -> None:
    """Train every fold that the runs lack with a process per GPU, or per CPU thread.

    Each process takes its share of every batch; gradients and batch norm statistics are those of
    the whole batch, so that a fold ends as it would in one process but for rounding. Nothing is
    compiled.

    Raises:
        BudgetError: the deadline came first; checkpoints stay.
        ConfigError, DataError, StorageError: as met by a fold.
    """
    execution = runs[0].execution
    program = (*TORCHRUN, f"--nproc-per-node={processes(execution)}", *ALONE)
    train_with([Worker(execution.device, 1, program)], runs, cache, on_epoch, deadline)


def processes(execution: Execution) -> int:
    """How many processes train a fold together on this machine."""
    return torch.cuda.device_count() if execution.device == "cuda" else execution.threads
