"""Small competitions made of real images, and a command run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
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


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code and everything it printed."""

    code: int
    output: str
    errors: str


Command = Callable[..., Outcome]


def run_pipeline(root: Path, *arguments: str, **environment: str) -> Outcome:
    """`python -m pipeline ARGUMENTS --root ROOT` in a process of its own."""
    with TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        process = start_fork(
            _command,
            (*arguments, "--root", str(root)),
            (output, errors),
            environment={**os.environ, **environment},
        )
        process.join(_SECONDS_TO_END)
        assert process.exitcode is not None, f"{arguments} still runs: {errors.read_text()}"
        return Outcome(process.exitcode, output.read_text(), errors.read_text())


def _command(arguments: Sequence[str], streams: Sequence[Path]) -> None:
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(REPOSITORY)
    sys.exit(main([*arguments]))


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
