"""Small competitions made of real images, and a command run as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.__main__ import main
from tests.stages.forking import start_fork

REPOSITORY = Path(__file__).parents[2]
_SECONDS_TO_END = 300
_STREAMS = ("output", "errors")


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code and everything it printed."""

    code: int
    output: str
    errors: str


Command = Callable[..., Outcome]


@dataclass(frozen=True)
class Running:
    """A command in a process of its own, which leads a group of processes."""

    process: ForkServerProcess
    streams: TemporaryDirectory[str]

    def outcome(self) -> Outcome:
        """What the command left, once it has ended."""
        self.process.join(_SECONDS_TO_END)
        output, errors = ((Path(self.streams.name) / name).read_text() for name in _STREAMS)
        if self.process.exitcode is None:
            self.kill()
            raise TimeoutError(f"killed after {_SECONDS_TO_END} s: {output}{errors}")
        self.streams.cleanup()
        return Outcome(self.process.exitcode, output, errors)

    def kill(self) -> None:
        """SIGKILL the whole group."""
        assert self.process.pid is not None
        with suppress(ProcessLookupError):  # it leads none yet, or has just ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.streams.cleanup()


def start_command(folder: Path, arguments: Sequence[str], **environment: str) -> Running:
    """`python -m pipeline ARGUMENTS` in `folder`, forked from what has the package imported."""
    streams = TemporaryDirectory()
    paths = [Path(streams.name) / name for name in _STREAMS]
    given = {**os.environ, **environment}
    return Running(
        start_fork(_run_command, folder, tuple(arguments), paths, environment=given), streams
    )


def _run_command(folder: Path, arguments: Sequence[str], streams: Sequence[Path]) -> None:
    os.setsid()
    os.chdir(folder)
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.exit(main([*arguments]))


def run_pipeline(root: Path, *arguments: str, **environment: str) -> Outcome:
    """`python -m pipeline ARGUMENTS --root ROOT` in a process of its own."""
    return start_command(REPOSITORY, [*arguments, "--root", str(root)], **environment).outcome()


def run_here(root: Path, *arguments: str) -> Outcome:
    """The same in this process, which has everything imported already."""
    with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()) as errors:
        code = main([*arguments, "--root", str(root)])
    return Outcome(code, output.getvalue(), errors.getvalue())


def in_namespace(kind: str, script: str, probe: str = "true") -> Outcome:
    """Run a shell script in a namespace of its own: `kind` is mount or net.

    Skips the test where this machine does not let its users make one, or `probe` fails in it.
    """
    unshare = ["unshare", "--user", "--map-root-user", f"--{kind}", "sh", "-c"]
    if subprocess.run([*unshare, probe], capture_output=True, check=False).returncode:
        pytest.skip(f"this machine does not let its users make {kind} namespaces")
    result = subprocess.run(
        [*unshare, script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return Outcome(result.returncode, result.stdout, result.stderr)


def write_digit_images(raw: Path, train: int = 600, test: int = 20) -> None:
    """A competition folder like Kaggle's: train/, test/, labels.csv, sample_submission.csv."""
    data = load_digits()
    for folder, rows in (("train", range(train)), ("test", range(train, train + test))):
        (raw / folder).mkdir(parents=True)
        for row in rows:
            pixels = (data.images[row] * 15).astype(np.uint8)
            Image.fromarray(pixels).save(raw / folder / f"{row:04}.png")
    labels = pd.DataFrame(
        {"id": [f"{row:04}" for row in range(train)], "label": data.target[:train]}
    )
    labels.to_csv(raw / "train.csv", index=False)
    sample = pd.DataFrame({"id": [f"{row:04}" for row in range(train, train + test)], "label": 0})
    sample.to_csv(raw / "sample_submission.csv", index=False)
