"""From nothing to a score, as a user runs it, on the local host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import ConfigError
from pipeline.host.state import STATE_VARIABLE
from pipeline.stages.chain import run_until
from pipeline.stages.settings import Settings
from tests.stages.commands import (
    REPOSITORY,
    Command,
    Outcome,
    in_namespace,
    run_pipeline,
    write_digit_images,
)

TWO_FOLDS = ("--competition", "digits", "--folds", "2")
SMOKE = (*TWO_FOLDS, "--recipe", "smoke")
FIXED = (*SMOKE, "--execution", "folded")  # auto is timed, which may end otherwise the second time
SMALL = (*TWO_FOLDS, "--set", "epochs=8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A checkout in which digits was submitted once."""
    root = tmp_path_factory.mktemp("checkout")
    return root, run_pipeline(root, "submit", *SMALL)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"run": "a"}, "RUN='a' is no run"),
        ({"weights": "a.safetensors"}, "WEIGHTS='a.safetensors'"),
    ],
)
def test_what_is_named_and_not_there_is_refused_before_a_download(
    tmp_path: Path, setting: dict[str, str], words: str
) -> None:
    settings = Settings(competition="digits", host="local", root=tmp_path, **setting)  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match=words):
        run_until("train", settings)
    assert not settings.workspace.competition("digits").exists()


def ledger(root: Path) -> list[dict[str, object]]:
    return [
        json.loads(line) for line in (root / "submissions/ledger.jsonl").read_text().splitlines()
    ]


def test_submit_goes_from_nothing_to_a_score(finished: tuple[Path, Outcome]) -> None:
    root, outcome = finished

    assert outcome.code == 0, outcome.errors
    assert "no Kaggle credentials found: using the local competition host" in outcome.output
    (line,) = ledger(root)
    assert line["competition"] == "digits"
    assert line["host"] == "local"
    assert line["private_score"] > 0.9
    assert str(line["public_score"])[:4] in outcome.output


def test_the_run_folder_holds_what_made_the_score(finished: tuple[Path, Outcome]) -> None:
    root, _ = finished
    (run,) = (root / "submissions/digits").iterdir()
    record = json.loads((run / "run.json").read_text())
    out_of_fold = pd.read_csv(run / "oof.csv", dtype={"id": str}).set_index("id")
    folds = pd.read_csv(run / "folds.csv", dtype={"id": str}).set_index("id")

    assert ledger(root)[0]["run"] == run.name == record["run"]
    assert ledger(root)[0]["cv_mean"] == record["cv"]["mean"] > 0.8
    assert set(out_of_fold.index) == set(folds.index)
    assert out_of_fold.sum(axis=1).between(0.999, 1.001).all()
    for number in range(2):
        lines = (run / f"fold{number}/metrics.jsonl").read_text().splitlines()
        assert len(lines) == record["recipe"]["epochs"]
    assert record["execution"]["reasons"]["precision"]
    (cache,) = (root / "data/digits/cache").iterdir()
    assert (cache / "contact_sheet.png").stat().st_size > 0


def test_a_second_submit_trains_nothing_and_uploads_nothing(
    finished: tuple[Path, Outcome], command: Command
) -> None:
    root, _ = finished

    again = command("submit", *SMALL, root=root)

    assert again.code == 0, again.errors
    for stage in ("download", "preprocess", "train", "predict", "submission"):
        (line,) = [line for line in again.output.splitlines() if line.startswith(stage + " ")]
        assert "up to date" in line
    assert "nothing uploaded: the same file went up" in again.output
    assert len(ledger(root)) == 1


def test_another_configuration_shares_the_fold_map(
    finished: tuple[Path, Outcome], here: Command
) -> None:
    root, _ = finished

    outcome = here("train", *SMOKE, "--conv", "channel-selection", root=root)

    assert outcome.code == 0, outcome.errors
    assert len(list((root / "data/digits/folds").iterdir())) == 1
    maps = {path.read_bytes() for path in (root / "submissions/digits").glob("*/folds.csv")}
    assert len(maps) == 1


def test_a_run_killed_while_training_goes_on_and_ends_with_the_same_bytes(
    finished: tuple[Path, Outcome], command: Command, tmp_path: Path
) -> None:
    shutil.copytree(finished[0] / "data", tmp_path / "straight/data")
    shutil.copytree(finished[0] / "data", tmp_path / "killed/data")
    assert command("submission", *FIXED, root=tmp_path / "straight").code == 0
    (straight,) = (tmp_path / "straight/submissions/digits").iterdir()
    killed = tmp_path / "killed/submissions/digits" / straight.name

    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train", *FIXED, "--root", str(tmp_path / "killed")],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
    )
    wait_until((killed / "fold0/manifest.json").exists)
    process.kill()
    process.wait()
    assert not (killed / "oof.csv").exists()
    first_fold = (killed / "fold0/weights.safetensors").stat().st_mtime_ns
    outcome = command("submission", *FIXED, root=tmp_path / "killed")

    assert outcome.code == 0, outcome.errors
    assert (killed / "fold0/weights.safetensors").stat().st_mtime_ns == first_fold
    for name in ("oof.csv", "test.csv", "submission.csv"):
        assert (killed / name).read_bytes() == (straight / name).read_bytes()
    assert not list(tmp_path.rglob("*.partial"))


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_files_put_there_by_hand_need_no_host(here: Command, tmp_path: Path) -> None:
    raw = tmp_path / "data/my-digits/raw"
    write_digit_images(raw)

    outcome = here("submission", "--competition", "my-digits", *SMOKE[2:])

    assert outcome.code == 0, outcome.errors
    (csv,) = (tmp_path / "submissions/my-digits").glob("*/submission.csv")
    sample = pd.read_csv(raw / "sample_submission.csv", dtype=str)
    written = pd.read_csv(csv, dtype=str)
    assert written.id.tolist() == sample.id.tolist()
    assert set(written.label) <= set("0123456789")


def test_a_changed_image_makes_another_cache_and_another_run(here: Command, tmp_path: Path) -> None:
    raw = tmp_path / "data/my-digits/raw"
    write_digit_images(raw)
    options = ("--competition", "my-digits")
    assert here("preprocess", *options).code == 0
    (raw / "train/0000.png").write_bytes((raw / "train/0010.png").read_bytes())

    assert "up to date" not in here("preprocess", *options).output.split("preprocess")[1]

    assert len(list((tmp_path / "data/my-digits/cache").iterdir())) == 2


def test_training_needs_none_of_the_hosts_files(
    finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    """In a mount namespace where the host's state is an empty folder."""
    shutil.copytree(finished[0] / "data", tmp_path / "data")
    state = os.environ[STATE_VARIABLE]
    assert (Path(state) / "host.sqlite3").exists()
    script = (
        f'mount -t tmpfs hidden {state} && test -z "$(ls {state})" && '
        f"{sys.executable} -m pipeline submission {' '.join(SMOKE)} --root {tmp_path}"
    )

    outcome = in_namespace("mount", script)

    assert outcome.code == 0, outcome.errors
    assert list((tmp_path / "submissions/digits").glob("*/submission.csv"))


def test_digits_needs_no_network(command: Command, tmp_path: Path) -> None:
    """In a network namespace that has nothing but its own loopback."""
    loopback = "ip link set lo up"
    state = tmp_path / "state"
    script = (
        f"{loopback} && {STATE_VARIABLE}={state} {sys.executable} -m pipeline submit "
        f"{' '.join(SMOKE)} --root {tmp_path}"
    )

    outcome = in_namespace("net", script, probe=loopback)

    assert outcome.code == 0, outcome.errors
    assert len(ledger(tmp_path)) == 1
