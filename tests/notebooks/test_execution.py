"""Every committed notebook runs where only Kaggle's image is, and writes a valid submission."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from pipeline.competition import load_competition
from pipeline.data.submission import check_submission, read_form
from pipeline.notebooks import variant_kernel
from pipeline.stages.settings import Settings
from tests.notebooks.sandbox import Machine, missing_isolation, printed, shown
from tests.stages.commands import write_digit_images

KERNELS = Path(__file__).parents[2] / "kernels"
NOTEBOOKS = sorted(KERNELS.glob("*/*/*.ipynb"))
QUICK = {"RECIPE": "smoke", "FOLDS": 2}

isolated = pytest.mark.skipif(
    missing_isolation() is not None, reason=missing_isolation() or "isolated"
)


def write_photo_crops(raw: Path, train: int = 600, test: int = 60) -> None:
    """A competition of colour images: 32-pixel crops of two photographs, labelled by place."""
    photos = load_sample_images().images
    random = np.random.default_rng(0)
    rows = []
    for number in range(train + test):
        label = ("bird", "cat", "dog")[number % 3]
        photo = photos[0 if label == "bird" else 1]
        top = random.integers(0, 150) + (200 if label == "dog" else 0)
        left = random.integers(0, photo.shape[1] - 32)
        folder = "train" if number < train else "test"
        (raw / folder).mkdir(parents=True, exist_ok=True)
        crop = photo[top : top + 32, left : left + 32]
        Image.fromarray(crop).save(raw / folder / f"{number:04}.png")
        rows.append({"id": f"{number:04}", "label": label})
    pd.DataFrame(rows[:train]).to_csv(raw / "train.csv", index=False)
    sample = pd.DataFrame(rows[train:]).assign(label="bird")
    sample.to_csv(raw / "sample_submission.csv", index=False)


WRITE_IMAGES = {
    "digits": partial(write_digit_images, train=1200, test=100),
    "dog-vs-cat-vs-bird": write_photo_crops,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps matplotlib's font cache between the sessions."""
    return tmp_path_factory.mktemp("home")


def check_output(working: Path, raw: Path, competition: str) -> None:
    definition = load_competition(competition, working)
    test_ids = sorted(path.stem for path in (raw / "test").iterdir())
    form = read_form(raw, definition, definition.classes, test_ids)
    check_submission(working / "submission.csv", form)


def test_every_kind_of_notebook_is_committed() -> None:
    assert len(NOTEBOOKS) == 6


# One of each kind in every test run; all of them in `make soak`.
OFTEN = ("digits-channel-selection", "dog-vs-cat-vs-bird-compare", "dog-vs-cat-vs-bird-subkernel")
EXECUTED = [
    pytest.param(path, id=path.stem, marks=[] if path.stem in OFTEN else pytest.mark.soak)
    for path in NOTEBOOKS
]


@isolated
@pytest.mark.parametrize("path", EXECUTED)
def test_a_committed_notebook_writes_a_valid_submission(
    path: Path, tmp_path: Path, home: Path
) -> None:
    competition = path.parents[1].name
    machine = Machine(tmp_path / "kaggle", home)
    mounts = {"subkernel": "competitions", "compare": ""}  # Kaggle has used both places
    raw = machine.inputs / mounts.get(path.parent.name, "") / competition
    WRITE_IMAGES[competition](raw)

    notebook = machine.run(path, **QUICK)

    check_output(machine.working, raw, competition)
    assert shown(notebook, "image/png") == 2  # contact sheet and curves
    variants = 2 if path.parent.name == "compare" else 1
    assert len(list(machine.working.glob(f"submissions/{competition}/*/run.json"))) == variants
    assert shown(notebook, "text/html") == variants  # submission, and the table that compares
    assert "submission.csv" in printed(notebook)


@isolated
@pytest.mark.soak
def test_a_session_that_is_too_short_ends_well_and_the_next_goes_on(
    tmp_path: Path, home: Path
) -> None:
    path = KERNELS / "digits/subkernel/digits-subkernel.ipynb"
    first, second = (Machine(tmp_path / name, home) for name in ("first", "second"))
    for machine in (first, second):
        write_digit_images(machine.inputs / "digits", train=1200, test=100)

    stopped = printed(first.run(path, **QUICK, HOURS=0))
    assert "add its output as an input" in stopped
    assert not (first.working / "submission.csv").exists()

    first.working.rename(second.inputs / "digits-subkernel")
    notebook = second.run(path, **QUICK)
    assert "going on with" in printed(notebook)
    check_output(second.working, second.inputs / "digits", "digits")


# Kaggle's machine has two GPUs; here the CPU stands for both. A thread counts the workers: only
# this process's own children, for a worker's child looks like the worker until its exec.
TWO_DEVICES = """
import contextlib, psutil, threading, time, torch
from pipeline.stages import train as stage
from pipeline.training import launch
for module in (stage, launch):
    module.devices_for = lambda execution: [torch.device("cpu"), torch.device("cpu")]
def is_worker(process):
    with contextlib.suppress(psutil.Error):  # a process that has just ended
        return "pipeline.training.fold_worker" in process.cmdline()
    return False
def count(most=0):
    while True:
        most = max(most, sum(map(is_worker, psutil.Process().children())))
        Path("/kaggle/working/most-workers").write_text(str(most))
        time.sleep(0.05)
threading.Thread(target=count, daemon=True).start()
"""


@isolated
@pytest.mark.soak
def test_two_devices_train_their_folds_at_the_same_time(tmp_path: Path, home: Path) -> None:
    variant_kernel(Settings(competition="digits")).write(tmp_path)
    machine = Machine(tmp_path / "kaggle", home)
    write_digit_images(machine.inputs / "digits", train=1200, test=100)

    notebook = machine.run(
        tmp_path / "digits-subkernel.ipynb", before_training=TWO_DEVICES, **QUICK
    )

    assert " on cpu, cpu" in printed(notebook)
    assert (machine.working / "most-workers").read_text() == "2"
    check_output(machine.working, machine.inputs / "digits", "digits")


@isolated
@pytest.mark.soak
def test_a_comparison_that_is_too_short_ends_well(tmp_path: Path, home: Path) -> None:
    machine = Machine(tmp_path / "kaggle", home)
    write_digit_images(machine.inputs / "digits")

    notebook = machine.run(KERNELS / "digits/compare/digits-compare.ipynb", **QUICK, HOURS=0)

    assert "add its output as an input" in printed(notebook)
    assert not (machine.working / "submission.csv").exists()
