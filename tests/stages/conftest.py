from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.host.lifecycle import local_host
from tests.stages.commands import Command, Outcome, run_here, run_pipeline
from tests.stages.refining import Refinery, train_small_runs


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs `python -m pipeline ...` with its data and submissions in a scratch folder."""

    def run(*arguments: str, root: Path = tmp_path, **environment: str) -> Outcome:
        return run_pipeline(root, *arguments, **environment)

    return run


@pytest.fixture
def here(tmp_path: Path) -> Command:
    """Runs the command in this process, likewise: for what needs no process of its own."""

    def run(*arguments: str, root: Path = tmp_path) -> Outcome:
        return run_here(root, *arguments)

    return run


@pytest.fixture(scope="session", autouse=True)
def kept_host(isolated_environment: None) -> Iterator[None]:
    """The local host that the commands of these tests find running; else each would start one."""
    with local_host("digits"):
        yield


@pytest.fixture(scope="session")
def small_runs(tmp_path_factory: pytest.TempPathFactory) -> Refinery:
    """Two trained runs on digits; several files of tests copy them."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # all workers have it: who comes first trains, the others find them
    with FileLock(folder / "small-runs.lock"):
        return train_small_runs(folder / "small-runs")
