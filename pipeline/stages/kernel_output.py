"""What a kernel leaves: fetched, and made a run folder like any other."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from pipeline.artifacts import read_json, storage_errors, write_json
from pipeline.client.client import KaggleClient
from pipeline.client.kernels import KernelVersion
from pipeline.errors import HostError
from pipeline.stages.console import say
from pipeline.training.run import RECORD as RUN_RECORD
from pipeline.training.run import epochs_below

SUBMISSION = "submission.csv"


class NoRunError(HostError):
    """The kernel ended, and what it left is no run: fetching again would not help."""


class UnfinishedRunError(HostError):
    """The kernel's time was up before its training ended; `epochs` are trained so far."""

    def __init__(self, epochs: int) -> None:
        super().__init__(f"the kernel ended after {epochs} epochs, its time being up")
        self.epochs = epochs


def fetch_run(client: KaggleClient, pushed: KernelVersion, run: Path, commit: str | None) -> None:
    """Fill the run folder with the run that the version leaves in its output.

    A fetch that was interrupted goes on with the files that it has; run.json comes last.

    Raises:
        UnfinishedRunError: the output holds runs to go on with, and no submission.csv.
        NoRunError: the output holds no submission.csv, or no run that made it.
        HostError: the output cannot be had.
        StorageError: the disk is full.
    """
    output = run / f".output-{pushed.version}"
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        with _progress_bar(pushed) as on_progress:
            names = client.kernels.output(pushed, output, on_progress)
        say("kernel", f"fetched {len(names)} output files of {pushed}")
        _require_finished(output)
        made = _run_that_submitted(output)
        record: dict[str, Any] = read_json(made / RUN_RECORD)
        for path in sorted(made.iterdir()):
            if path.name != RUN_RECORD:
                _replace(path, run / path.name)
        origin = {"kernel": pushed.kernel, "version": pushed.version}
        own = {"run": run.name, "commit": record.get("commit") or commit, "kernel": origin}
        write_json(run / RUN_RECORD, record | own)
        shutil.rmtree(output)


def _require_finished(output: Path) -> None:
    """Tell a session that ran out of time from a kernel that forgot its submission.

    Raises:
        UnfinishedRunError: training has not ended.
    """
    records = [read_json(path) for path in output.rglob(RUN_RECORD)]
    if (output / SUBMISSION).is_file() or all("cv" in record for record in records):
        return
    epochs = epochs_below(output)
    shutil.rmtree(output)
    raise UnfinishedRunError(epochs)


def _run_that_submitted(output: Path) -> Path:
    """The run folder whose submission.csv is the output's; a comparing kernel leaves several.

    Raises:
        NoRunError: there is none.
    """
    submission = output / SUBMISSION
    if not submission.is_file():
        raise NoRunError(f"the kernel ended well but wrote no {SUBMISSION}")
    content = submission.read_bytes()
    for record in sorted(output.rglob(RUN_RECORD)):
        copy = record.with_name(SUBMISSION)
        if copy.is_file() and copy.read_bytes() == content:
            return record.parent
    raise NoRunError(f"the kernel's output holds no run folder with its {SUBMISSION}")


def _replace(new: Path, path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(new, path)


@contextmanager
def _progress_bar(pushed: KernelVersion) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(f"fetching the output of {pushed}", total=None)
        yield lambda received: progress.update(task, completed=received)
