"""The stages as a Kaggle notebook runs them: mounted data, limited time, attached outputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.stages.kernel import adopt_runs, run_kernel
from pipeline.stages.settings import Settings
from tests.stages.commands import Command, write_digit_images

# Bytes are compared here: the execution that `auto` finds fastest may be another the next time.
SETTINGS = Settings(competition="my-digits", recipe="smoke", folds=2, execution="folded")


def run(folder: Path, inputs: Path, hours: float = 1.0) -> Path | None:
    return run_kernel(
        SETTINGS,
        inputs=inputs,
        working=folder / "working",
        scratch=folder / "scratch",
        hours=hours,
    )


@pytest.mark.parametrize("place", ["competitions/my-digits", "my-digits"])
def test_both_mount_points_give_the_submission_of_a_run_at_home(
    tmp_path: Path, command: Command, place: str
) -> None:
    write_digit_images(tmp_path / "inputs" / place)
    write_digit_images(tmp_path / "data/my-digits/raw")
    options = ("--competition", "my-digits", "--recipe", "smoke", "--folds", "2")
    options += ("--execution", "folded")
    assert command("submission", *options).code == 0
    (at_home,) = (tmp_path / "submissions/my-digits").glob("*/submission.csv")

    output = run(tmp_path, tmp_path / "inputs")

    assert output == tmp_path / "working/submission.csv"
    assert output.read_bytes() == at_home.read_bytes()
    assert (tmp_path / "working/submissions/my-digits" / at_home.parent.name / "run.json").exists()


def test_packed_files_are_unpacked_and_the_mount_stays_as_it_is(tmp_path: Path) -> None:
    write_digit_images(tmp_path / "files")
    mounted = tmp_path / "inputs/my-digits"
    mounted.mkdir(parents=True)
    shutil.make_archive(str(mounted / "train"), "zip", tmp_path / "files", "train")
    shutil.make_archive(str(mounted / "test"), "zip", tmp_path / "files", "test")
    for name in ("train.csv", "sample_submission.csv"):
        shutil.copy(tmp_path / "files" / name, mounted)
    before = sorted(mounted.rglob("*"))

    assert run(tmp_path, tmp_path / "inputs") is not None

    assert sorted(mounted.rglob("*")) == before


def test_a_session_out_of_time_is_continued_when_its_output_is_attached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_digit_images(tmp_path / "inputs/my-digits")
    straight = run(tmp_path / "straight", tmp_path / "inputs")

    assert run(tmp_path / "first", tmp_path / "inputs", hours=0) is None
    assert "attach this notebook's output" in capsys.readouterr().out
    shutil.copytree(tmp_path / "first/working", tmp_path / "inputs/my-digits-subkernel")
    output = run(tmp_path / "second", tmp_path / "inputs")

    assert "going on with" in capsys.readouterr().out
    assert straight is not None
    assert output is not None
    assert output.read_bytes() == straight.read_bytes()


def leave_session(output: Path, epochs: int) -> None:
    """What a notebook leaves whose time was up after so many epochs."""
    fold = output / "submissions/my-digits/subkernel-1/fold0.unfinished"
    fold.mkdir(parents=True)
    (fold.parent / "run.json").write_text("{}")
    (fold / "metrics.jsonl").write_text("{}\n" * epochs)
    (fold / "checkpoint.pt").write_text(str(epochs))


def test_of_several_sessions_the_one_that_trained_furthest_is_continued(tmp_path: Path) -> None:
    """As where a notebook and a copy that went on from it are attached."""
    places = ("a-session", "b-session", "c-session", "notebooks/me/session")
    for epochs, place in zip((3, 7, 2, 5), places, strict=True):
        leave_session(tmp_path / "inputs" / place, epochs)

    adopt_runs(tmp_path / "inputs", tmp_path / "runs/my-digits")

    (checkpoint,) = (tmp_path / "runs").rglob("checkpoint.pt")
    assert checkpoint.read_text() == "7"


def test_a_copy_that_was_interrupted_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(source: str, target: str, **rest: bool) -> str:
        if Path(source).name == "checkpoint.pt":
            raise KeyboardInterrupt
        return str(copyfile(source, target, **rest))

    leave_session(tmp_path / "inputs/session", 3)
    runs, copyfile = tmp_path / "runs/my-digits", shutil.copyfile
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", interrupt)
        with pytest.raises(KeyboardInterrupt):
            adopt_runs(tmp_path / "inputs", runs)

    adopt_runs(tmp_path / "inputs", runs)

    left = {path.relative_to(runs / "subkernel-1").as_posix() for path in runs.rglob("*.*")}
    fold = "fold0.unfinished"
    assert left == {"run.json", fold, f"{fold}/checkpoint.pt", f"{fold}/metrics.jsonl"}


def test_a_competition_that_is_not_mounted_is_named(tmp_path: Path) -> None:
    (tmp_path / "inputs/other").mkdir(parents=True)

    with pytest.raises(DataError, match=r"my-digits is not mounted .*there: other"):
        run(tmp_path, tmp_path / "inputs")
