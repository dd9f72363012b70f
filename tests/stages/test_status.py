"""What status says at each point of a competition's life, and that it changes nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.stages.chain import STAGES, run_until
from pipeline.stages.kernels import write_kernels
from pipeline.stages.push_record import GENERATED, RECORD, PushFolder, PushRecord
from pipeline.stages.refine import thresholds
from pipeline.stages.settings import Settings
from pipeline.stages.status import print_status, status
from tests.stages.commands import run_here
from tests.stages.killing import run_and_kill

DIGITS = Settings(competition="digits", recipe="smoke", folds=2, host="local")


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which digits was submitted once."""
    root = tmp_path_factory.mktemp("checkout")
    run_until("submit", DIGITS.with_root(root))
    return root


@pytest.fixture
def copy(submitted: Path, tmp_path: Path) -> Settings:
    """The same in a folder to spoil."""
    shutil.copytree(submitted, tmp_path / "copy")
    return DIGITS.with_root(tmp_path / "copy")


def states(found: dict[str, Any]) -> list[str]:
    assert [step["stage"] for step in found["next"]] == list(STAGES)
    return [step["state"] for step in found["next"]]


def told(found: dict[str, Any], stage: str) -> str:
    return next(step["text"] for step in found["next"] if step["stage"] == stage)


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with its size and time of change."""
    stats = {path.relative_to(root).as_posix(): path.stat() for path in root.rglob("*")}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def test_before_anything_it_says_where_the_files_come_from(tmp_path: Path) -> None:
    found = status(DIGITS.with_root(tmp_path))

    assert found["raw"] == {"state": "absent", "files": 0, "bytes": 0}
    assert found["caches"] == found["folds"] == found["runs"] == []
    assert [kernel["state"] for kernel in found["kernels"]] == ["absent"] * 3
    assert states(found) == ["to do", "to do", "later", "later", "later", "later"]
    assert told(found, "download").startswith("from the local competition host into ")
    assert list(tmp_path.iterdir()) == []


def test_what_must_fail_is_said_to_fail(tmp_path: Path) -> None:
    elsewhere = replace(DIGITS.with_root(tmp_path), competition="elsewhere")

    assert states(status(elsewhere)) == ["refused", *["later"] * 5]
    assert "has no competition 'elsewhere'; it has " in told(status(elsewhere), "download")
    assert states(status(replace(elsewhere, host="kaggle")))[0] == "refused"
    with pytest.raises(ConfigError, match="nonsense"):
        status(replace(elsewhere, conv="nonsense"))


def test_an_upload_to_a_host_without_the_competition_is_said_to_fail(
    submitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stages.next_steps.available_competitions", lambda: ["mnist"])

    found = status(replace(DIGITS.with_root(submitted), force=True))

    assert states(found) == [*["up to date"] * 5, "refused"]
    assert told(found, "submit").endswith("has no competition 'digits'; it has mnist")


def test_after_submit_everything_is_up_to_date_and_nothing_was_touched(
    submitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, before = DIGITS.with_root(submitted), tree(submitted)

    found = status(settings)
    print_status(settings)

    assert states(found) == ["up to date"] * 6
    (run,) = found["runs"]
    assert run["trained"]
    assert run["stale"] == run["missing_folds"] == []
    assert run["uploads"][0]["public"] is not None
    assert [cache["current"] for cache in found["caches"]] == [True]
    assert [fold_map["current"] for fold_map in found["folds"]] == [True]
    printed = capsys.readouterr().out
    assert f"run {run['run']}" in printed
    assert f"submission {run['uploads'][0]['ref']} to the local competition host" in printed
    assert tree(submitted) == before
    assert states(status(replace(settings, force=True)))[-1] == "to do"


def test_the_command_prints_one_json_object(submitted: Path) -> None:
    options = ("--competition", "digits", "--recipe", "smoke", "--folds", "2", "--host", "local")

    outcome = run_here(submitted, "status", *options, "--json")

    assert outcome.code == 0, outcome.errors
    assert json.loads(outcome.output) == status(DIGITS.with_root(submitted))


def test_after_preprocess_it_names_the_run_to_come_and_after_a_kill_what_is_missing(
    copy: Settings,
) -> None:
    shutil.rmtree(copy.root / "submissions")
    shutil.rmtree(copy.root / "data/digits/folds")
    settings = replace(copy, set="epochs=12")
    planned = told(status(settings), "train")
    assert planned.startswith("2 folds, new run subkernel-")
    name = planned.split()[-1]
    folder = copy.root / "submissions/digits" / name
    assert not (copy.root / "data/digits/folds").exists()

    run_and_kill(run_until, ("train", settings), (folder / "fold0/manifest.json").exists)
    found = status(settings)

    assert [run["run"] for run in found["runs"]] == [name]
    assert found["runs"][0]["missing_folds"] == [1]
    assert states(found) == ["up to date", "up to date", "to do", "to do", "later", "later"]
    assert told(found, "train").startswith(f"1 of 2 folds missing, run {name}")


def test_another_definition_makes_cache_and_run_stale(copy: Settings) -> None:
    (copy.root / "data/digits/competition.toml").write_text("[data]\nsize = 16\n")

    found = status(copy)

    assert states(found) == ["up to date", "to do", "later", "later", "later", "later"]
    assert found["caches"][0]["stale"] == "of other files, another definition or another SIZE"
    assert found["runs"][0]["stale"][0].startswith("made from cache ")
    assert found["folds"][0]["current"] is None


def test_files_that_nobody_read_yet_leave_open_what_is_stale(copy: Settings) -> None:
    (copy.root / "data/digits/.raw-index.json").unlink()

    found = status(copy)

    assert told(found, "preprocess") == "read files that are new or changed"
    assert found["caches"][0] == {**found["caches"][0], "current": False, "stale": None}


def test_an_older_engine_other_folds_and_a_changed_source_are_stale(copy: Settings) -> None:
    folder = next(copy.root.glob("submissions/digits/subkernel-*"))
    derived = thresholds(replace(copy, run=folder.name)).name
    record = json.loads((folder / "run.json").read_text())
    record["engine_version"] -= 1
    record["folds"]["sha256"] = "0"
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "oof.csv").write_text((folder / "oof.csv").read_text() + "\n")

    stale = {run["run"]: run["stale"] for run in status(copy)["runs"]}

    engine = record["engine_version"]
    assert stale[folder.name][0] == f"engine {engine}, now {engine + 1}"
    assert stale[folder.name][1].startswith("on folds of other images or groups")
    assert stale[derived] == [f"{folder.name}, which it was made from, changed or is gone"]


def test_a_list_of_copies_that_keeps_from_training_keeps_nothing_else_from_being_told(
    copy: Settings,
) -> None:
    (copy.root / "data/digits/duplicates.csv").write_text("id,group\nremoved,copies0\n")

    found = status(copy)

    assert states(found)[:3] == ["up to date", "up to date", "refused"]
    assert "1 of 1 images are no training images, first 'removed'" in told(found, "train")
    assert found["folds"][0]["current"] is None
    assert found["runs"][0]["stale"] == []


def test_what_is_gone_of_a_run_is_to_do(copy: Settings) -> None:
    folder = next(copy.root.glob("submissions/digits/subkernel-*"))
    (folder / "submission.csv").unlink()
    assert states(status(copy))[3:] == ["up to date", "to do", "later"]

    (folder / "test.csv").unlink()
    assert states(status(copy))[3:] == ["to do", "later", "later"]
    named = replace(copy, run=folder.name, seed=3)
    assert told(status(named), "train") == f"nothing: run {folder.name} is named"


def test_a_missing_file_of_the_download_is_told(copy: Settings) -> None:
    next((copy.root / "data/digits/raw").rglob("*.csv")).unlink()

    found = status(copy)

    assert states(found) == ["refused", *["later"] * 5]
    assert "files are missing" in told(found, "download")


def test_of_every_notebook_it_says_whether_it_is_current_and_was_pushed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = DIGITS.with_root(tmp_path)
    write_kernels(tmp_path)
    kernels = tmp_path / "kernels/digits"
    for number, session in ((1, "first"), (2, "second"), (None, "begun")):
        push = tmp_path / f"submissions/digits/subkernel-kernel-{session}"
        shutil.copytree(kernels / "subkernel", push / GENERATED)
        time = f"2026-01-0{number}T00:00:00Z" if number else None
        shared = {"kernel": "alice/digits-subkernel", "host": "local", "instance": "1"}
        later = {"commit": None, "forced": False, "after": 0, "version": number, "pushed_at": time}
        PushFolder(push).begin(PushRecord(**shared, **later))
    (kernels / "channel-selection/digits-channel-selection.ipynb").write_text("{}")
    shutil.rmtree(kernels / "compare")
    shutil.copytree(kernels / "subkernel", kernels / "mine")
    (kernels / "mine/kernel-metadata.json").write_text("{}")
    capsys.readouterr()

    print_status(settings)

    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("kernel")]
    assert lines == [
        "kernel      channel-selection stale: the package makes another one; run `make kernels`",
        "kernel      mine not one that `make kernels` writes",
        "kernel      subkernel current; pushed as alice/digits-subkernel/2 to local",
        "kernel      compare absent; run `make kernels`",
    ]
    (record,) = tmp_path.glob(f"submissions/digits/*-first/{RECORD}")
    record.write_text("{}")
    with pytest.raises(DataError, match=r"push\.json is damaged"):
        status(settings)


def test_a_competition_without_notebooks_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_status(replace(DIGITS.with_root(tmp_path), competition="vehicles"))

    assert "kernel      none\n" in capsys.readouterr().out
