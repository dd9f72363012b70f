"""Hostile bytes: what fuzzing has found stays found, and every target is fuzzed some more."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.fuzz.layout_target import MARK, LayoutTarget
from tests.fuzz.targets import TARGETS
from tests.stages.commands import REPOSITORY

RUNS = 400
SECONDS = 600


def changed_seeds(target: str, old: bytes, new: bytes, folder: Path) -> Iterator[bytes]:
    """The good inputs that have `old` in them, with `new` in its place."""
    for seed in TARGETS[target](folder).seeds():
        if old in seed:
            yield seed.replace(old, new)


# Each broke what it was found in.
FOUND = [
    pytest.param("layout", b"'shape': (2,", b"'shape': (2('", id="an array's header with no end"),
    pytest.param(
        "layout", bytes(4) + MARK, b"\0\1\0\0" + MARK, id="parts before the archive begins"
    ),
    pytest.param("layout", b"x_train.npy", b"x_train.npz", id="an array called an archive"),
    pytest.param("layout", b"x_test", b"\x1b[7mtset", id="a name that speaks to the terminal"),
    pytest.param(
        "layout", b"test/3.png", b"sample_submission.csv/3.png", id="a folder called like a table"
    ),
    pytest.param("host", b'": "digits"', b'": "\\ud800"', id="half of a character"),
    pytest.param("host", b"application/json", b"application/josn", id="a body of another kind"),
    pytest.param("host", b"Basic ", b"Basic \xff", id="a key that is no text"),
]


@pytest.mark.parametrize("target", TARGETS)
def test_every_good_input_passes(target: str, tmp_path: Path) -> None:
    fuzzed = TARGETS[target](tmp_path)
    seeds = list(fuzzed.seeds())
    for seed in seeds:
        fuzzed.run(seed)
    assert len(set(seeds)) > 5


def test_the_good_folders_are_of_every_layout(tmp_path: Path) -> None:
    target = LayoutTarget(tmp_path)
    layouts = {target.read(seed).layout for seed in target.seeds()}
    assert layouts == {"folders", "filenames", "table", "pixels", "idx", "arrays"}


@pytest.mark.parametrize(("target", "old", "new"), FOUND)
def test_what_was_found_stays_mended(target: str, old: bytes, new: bytes, tmp_path: Path) -> None:
    inputs = list(changed_seeds(target, old, new, tmp_path / "seeds"))
    assert inputs
    fuzzed = TARGETS[target](tmp_path / "run")
    for data in islice(inputs, 5):
        fuzzed.run(data)


def fuzz(target: str, folder: Path, option: str) -> int:
    """How many inputs were tried; none of them failed."""
    command = [sys.executable, "-m", "tests.fuzz", target, str(folder), option, "-seed=1"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    found = [path.read_bytes() for path in (folder / "crashes").iterdir()]
    assert (result.returncode, found) == (0, []), result.stderr[-3000:]
    (count,) = re.findall(r"Done (\d+) runs", result.stderr)
    return int(count)


@pytest.mark.parametrize("target", TARGETS)
def test_changed_inputs_pass(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this machine")
    assert fuzz(target, tmp_path, f"-runs={RUNS}") >= RUNS


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_ten_minutes_of_changed_inputs_find_nothing(
    target: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this machine")
    count = fuzz(target, tmp_path, f"-max_total_time={SECONDS}")
    record_property("cases", count)
    record_property(f"inputs of the {target}", count)
