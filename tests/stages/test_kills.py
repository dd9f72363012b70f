"""Killed at any moment, the command run again ends with the submission of one never killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stages.commands import REPOSITORY, write_digit_images

# One in every test run; all of them in `make soak`.
MOMENTS = [pytest.param(seed, marks=[pytest.mark.soak] if seed >= 1 else []) for seed in range(30)]
COMMAND = (
    *(sys.executable, "-m", "pipeline", "submission", "--competition", "mine", "--folds", "2"),
    *("--recipe", "smoke", "--model", "nntrain-cnn", "--set", "epochs=20 compile=off threads=1"),
)


def start(root: Path) -> subprocess.Popen[bytes]:
    """The whole chain up to submission.csv, in a process group of its own."""
    return subprocess.Popen(
        [*COMMAND, "--root", str(root)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(root: Path) -> bytes:
    """Run the chain to its end; the submission that it leaves."""
    process = start(root)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()
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

    process = start(tmp_path)
    time.sleep(random.Random(seed).uniform(0, seconds))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    print(f"killed with {len(list(tmp_path.rglob('*')))} files there")

    assert finish(tmp_path) == expected
    assert not list(tmp_path.rglob("*.unfinished"))
