"""Killed at any moment, the command run again ends with the submission of one never killed."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.stages.commands import REPOSITORY, Running, start_command, write_digit_images

# One in every test run; all of them in `make soak`.
MOMENTS = [pytest.param(seed, marks=[pytest.mark.soak] if seed >= 1 else []) for seed in range(30)]
COMMAND = (
    *("submission", "--competition", "mine", "--folds", "2", "--recipe", "smoke"),
    *("--model", "nntrain-cnn", "--set", "epochs=20 compile=off threads=1"),
    *("--execution", "folded"),  # auto is timed, which may end otherwise the second time
)


def start(root: Path) -> Running:
    """The whole chain up to submission.csv."""
    return start_command(REPOSITORY, [*COMMAND, "--root", str(root)])


def finish(root: Path) -> bytes:
    """Run the chain to its end; the submission that it leaves."""
    outcome = start(root).outcome()
    assert outcome.code == 0, outcome.errors
    (submission,) = root.glob("submissions/mine/*/submission.csv")
    return submission.read_bytes()


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, bytes]:
    """How long the chain takes, and what it leaves."""
    root = tmp_path_factory.mktemp("unkilled")
    write_digit_images(root / "data/mine/raw")
    begin = time.monotonic()
    submission = finish(root)
    return time.monotonic() - begin, submission


@pytest.mark.parametrize("seed", MOMENTS)
def test_a_killed_chain_goes_on_to_the_same_submission(
    seed: int, tmp_path: Path, unkilled: tuple[float, bytes]
) -> None:
    write_digit_images(tmp_path / "data/mine/raw")
    seconds, expected = unkilled

    command = start(tmp_path)
    time.sleep(random.Random(seed).uniform(0, seconds))
    command.kill()
    print(f"killed with {len(list(tmp_path.rglob('*')))} files there")

    assert finish(tmp_path) == expected
    assert not list(tmp_path.rglob("*.unfinished"))
