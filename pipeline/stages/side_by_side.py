"""Runs that train side by side: one that fails keeps no other from training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from pipeline.errors import BudgetError, PipelineError, StorageError
from pipeline.stages.console import say
from pipeline.training.deadline import Deadline
from pipeline.training.fold_process import OnEpoch
from pipeline.training.launch import Launcher
from pipeline.training.run import Run


def train_side_by_side(
    runs: Sequence[Run], cache: Path, on_epoch: OnEpoch, deadline: Deadline, launch: Launcher
) -> None:
    """Train every fold that the runs lack; what failed is told when all others are trained.

    Raises:
        BudgetError, StorageError: at once; every run would meet them.
        PipelineError: as met by the first run that failed.
    """
    failures: list[tuple[str, PipelineError]] = []
    waiting = _with_the_same_places(runs)
    while waiting:
        together = waiting.pop(0)
        try:
            launch(together, cache, on_epoch, deadline)
        except (BudgetError, StorageError):
            raise
        except PipelineError as error:
            if len(runs) == 1:
                raise
            if len(together) > 1:  # which of them failed shows when each trains by itself
                waiting = [*([run] for run in together if run.missing_folds()), *waiting]
                continue
            name = together[0].folder.name
            with tqdm.external_write_mode():  # the line is not appended to the bar's
                say("train", f"{name} failed, the others go on: {error}")
            failures.append((name, error))
    if failures:
        name, first = failures[0]
        told = f"{len(failures)} of {len(runs)} runs failed, first {name}: {first}"
        raise type(first)(told) from first


def _with_the_same_places(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs by where their folds train, as a launcher asks the first run for all of them.

    They differ where some runs of a sweep were begun on another machine.
    """
    groups: dict[tuple[str, int, int], list[Run]] = {}
    for run in runs:
        execution = run.execution
        places = execution.device, execution.threads, execution.folds_at_once
        groups.setdefault(places, []).append(run)
    return list(groups.values())
