from __future__ import annotations

from pathlib import Path

import pytest

from tests.stages.commands import Command, Outcome, run_here, run_pipeline


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
