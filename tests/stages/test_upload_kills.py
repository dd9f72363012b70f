"""Killed at any moment of an upload, the command run again leaves one submission and one line."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.host.state import STATE_VARIABLE, State
from tests.stages.commands import REPOSITORY, Running, start_command

# One in every test run; all of them in `make soak`.
MOMENTS = [pytest.param(seed, marks=[pytest.mark.soak] if seed >= 1 else []) for seed in range(70)]
OPTIONS = (
    *("--competition", "digits", "--host", "local", "--recipe", "smoke", "--folds", "2"),
    *("--model", "nntrain-cnn", "--set", "epochs=1 compile=off threads=1"),
)


@dataclass(frozen=True)
class Checkout:
    """A checkout and the state of the host that it talks to."""

    folder: Path

    @property
    def state(self) -> State:
        return State(self.folder / "state")

    def start(self, stage: str) -> Running:
        arguments = [stage, *OPTIONS, "--root", str(self.folder)]
        return start_command(REPOSITORY, arguments, **{STATE_VARIABLE: str(self.state.folder)})

    def finish(self, stage: str) -> None:
        outcome = self.start(stage).outcome()
        assert outcome.code == 0, outcome.errors

    def copy(self, folder: Path) -> Checkout:
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Checkout(folder)

    def submissions(self) -> int:
        """How many the host has."""
        with sqlite3.connect(self.state.database) as database:
            (count,) = database.execute("SELECT count(*) FROM submissions").fetchone()
        return int(count)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Everything but the upload is done."""
    checkout = Checkout(tmp_path_factory.mktemp("ready"))
    checkout.finish("submission")
    return checkout


@pytest.fixture(scope="module")
def seconds(ready: Checkout, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long an upload takes that nobody kills."""
    checkout = ready.copy(tmp_path_factory.mktemp("unkilled"))
    start = time.monotonic()
    checkout.finish("submit")
    return time.monotonic() - start


@pytest.mark.parametrize("seed", MOMENTS)
def test_a_killed_upload_is_made_once(
    seed: int, tmp_path: Path, ready: Checkout, seconds: float
) -> None:
    checkout = ready.copy(tmp_path)
    command = checkout.start("submit")
    time.sleep(random.Random(seed).uniform(0.3, 1.0) * seconds)
    command.kill()
    print(f"killed with {checkout.submissions()} submissions there")

    checkout.finish("submit")

    lines = (tmp_path / "submissions/ledger.jsonl").read_text().splitlines()
    (upload,) = (json.loads(line) for line in lines)
    assert upload["status"] == "COMPLETE"
    assert checkout.submissions() == 1
    checkout.finish("verify")
