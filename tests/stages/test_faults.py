"""Bad input at the command line: one line, a documented exit code, nothing half-written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pipeline.host.__main__ import main as host_command
from pipeline.host.state import STATE_VARIABLE
from tests.stages.commands import (
    REPOSITORY,
    Command,
    Outcome,
    in_namespace,
    write_digit_images,
)

MINE = ("--competition", "my-digits")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A small competition that a person put into data/my-digits/raw/."""
    folder = tmp_path / "data/my-digits/raw"
    write_digit_images(folder)
    return folder


def assert_fails(outcome: Outcome, code: int, *parts: str) -> None:
    """The exit code is `code`, and the last line printed has all `parts`; no traceback."""
    last = outcome.errors.strip().splitlines()[-1]
    assert outcome.code == code, outcome.errors
    assert "Traceback" not in outcome.errors
    for part in parts:
        assert part in last


def leftovers(root: Path) -> list[Path]:
    """Unfinished artefacts: partial files and folders, caches without a manifest."""
    partial = [path for path in root.rglob("*") if path.name.endswith(".partial")]
    caches = [
        path
        for path in root.glob("data/*/cache/*")
        if path.is_dir() and not (path / "manifest.json").exists()
    ]
    return partial + caches


@pytest.mark.parametrize(
    ("option", "value", "parts"),
    [
        ("--conv", "sub-kernel", ("CONV='sub-kernel'", "channel-selection", "subkernel")),
        ("--model", "resnet15", ("MODEL='resnet15'", "resnet14")),
        ("--recipe", "slow", ("RECIPE='slow'", "quick")),
        ("--competition", "cats-vs-cats", ("'cats-vs-cats'", "digits", "data/cats-vs-cats/raw")),
        ("--competition", "../secrets", ("'../secrets'", "slug")),
    ],
)
def test_an_unknown_name_lists_the_choices(
    here: Command, tmp_path: Path, option: str, value: str, parts: tuple[str, ...]
) -> None:
    outcome = here("submit", option, value)

    assert_fails(outcome, 2, *parts)
    assert not list(tmp_path.rglob("*.json"))


def test_too_many_folds(here: Command, raw: Path) -> None:
    outcome = here("train", "--competition", "my-digits", "--folds", "500")

    assert_fails(outcome, 2, "FOLDS=500", "have fewer images")


def test_a_corrupt_image_is_named(here: Command, raw: Path, tmp_path: Path) -> None:
    for name in ("0003.png", "0007.png"):
        path = raw / "train" / name
        path.write_bytes(path.read_bytes()[:40])

    outcome = here("preprocess", *MINE)

    assert_fails(outcome, 3, "2 ", "0003.png")
    assert not leftovers(tmp_path)


def test_a_label_without_its_image(here: Command, raw: Path, tmp_path: Path) -> None:
    (raw / "train/0005.png").unlink()

    outcome = here("preprocess", *MINE)

    assert_fails(outcome, 3, "1 ", "0005", "train.csv")
    assert not leftovers(tmp_path)


def test_one_class(here: Command, raw: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(raw / "train.csv", dtype=str)
    labels.assign(label="7").to_csv(raw / "train.csv", index=False)

    outcome = here("preprocess", *MINE)

    assert_fails(outcome, 3, "'7'")
    assert not leftovers(tmp_path)


def test_a_full_disk_while_caching(command: Command, raw: Path, tmp_path: Path) -> None:
    """The cache folder is a tmpfs of 16 KiB, smaller than the tensors."""
    cache = tmp_path / "data/my-digits/cache"
    cache.mkdir()
    pipeline = f"{sys.executable} -m pipeline preprocess {' '.join(MINE)} --root {tmp_path}"
    script = (
        f"mount -t tmpfs -o size=16k small {cache}; {pipeline}; code=$?; ls -A {cache}; exit $code"
    )

    outcome = in_namespace("mount", script)

    assert_fails(outcome, 9, "disk full", "cache", "free")
    assert "partial" not in outcome.output
    assert command("preprocess", *MINE).code == 0


def test_no_credentials_for_kaggle(here: Command) -> None:
    outcome = here("submit", "--competition", "digits", "--host", "kaggle")

    assert_fails(outcome, 6, "credentials", "kaggle.com/settings")


@pytest.fixture
def administer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Commands of the local host, of which the test has one of its own."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))

    def run(*arguments: str) -> None:
        assert host_command(arguments) == 0

    return run


def test_the_daily_limit(here: Command, tmp_path: Path, administer: Callable[..., None]) -> None:
    options = ("--competition", "digits", "--folds", "2", "--recipe", "smoke")
    assert here("download", *options).code == 0
    administer("daily-limit", "digits", "1")
    assert here("submit", *options).code == 0

    outcome = here("submit", *options, "--seed", "1")

    assert_fails(outcome, 5, "digits", "no more submissions today", "midnight UTC")
    assert "no submission left today, 1 made" in outcome.output
    assert len((tmp_path / "submissions/ledger.jsonl").read_text().splitlines()) == 1
    assert len(list((tmp_path / "submissions/digits").glob("*/submission.csv"))) == 2
    administer("daily-limit", "digits", "2")
    assert here("submit", *options, "--seed", "1").code == 0


def test_rules_not_accepted(here: Command, tmp_path: Path, administer: Callable[..., None]) -> None:
    options = ("--competition", "digits")
    assert here("download", *options).code == 0
    administer("rules", "local-user", "digits", "revoke")
    shutil.rmtree(tmp_path / "data/digits/raw")

    outcome = here("download", *options)

    assert_fails(outcome, 7, "digits", "rules")
    assert not (tmp_path / "data/digits/raw").exists()
    assert not leftovers(tmp_path)
    remedy = outcome.errors.split("`")[1]
    subprocess.run(remedy, shell=True, cwd=REPOSITORY, check=True)
    assert here("download", *options).code == 0


def test_two_commands_in_one_checkout(command: Command, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(exist_ok=True)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path\n"
            "from pipeline.stages.lock import only_command\n"
            "from pipeline.workspace import Workspace\n"
            f"with only_command(Workspace(root=Path({str(tmp_path)!r}))):\n"
            "    print('held', flush=True); sys.stdin.read()",
        ],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    outcome = command("preprocess", *MINE)
    holder.communicate()

    assert_fails(outcome, 10, f"process {holder.pid}")
    assert command("preprocess", *MINE).code == 0


def test_own_definition_overrides_key_by_key_and_a_bad_key_is_named(
    here: Command, raw: Path, tmp_path: Path
) -> None:
    (tmp_path / "data/my-digits/competition.toml").write_text('[data]\nlayuot = "table"\n')

    outcome = here("preprocess", *MINE)

    assert_fails(outcome, 2, "competition.toml", "'layuot'", "layout")
