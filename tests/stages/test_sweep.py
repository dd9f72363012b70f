"""sweep: a variant that fails keeps no other from being trained and scored."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BudgetError, ConfigError, PipelineError
from pipeline.stages.settings import Settings
from pipeline.stages.side_by_side import train_side_by_side
from pipeline.stages.sweep import sweep
from pipeline.training import launch
from pipeline.training.deadline import Deadline
from pipeline.training.fold import run_fold
from pipeline.training.run import Run
from tests.stages.commands import Command, write_digit_images

SWEEP = (
    *("sweep", "--competition", "mine", "--folds", "2", "--recipe", "smoke"),
    *("--model", "nntrain-cnn", "--set", "epochs=1", "--execution", "folded"),
    *("--convs", "subkernel,channel-selection,separable"),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_digit_images(tmp_path / "data/mine/raw")
    return tmp_path


def fail_at(
    monkeypatch: pytest.MonkeyPatch, conv: str, number: int, error: PipelineError
) -> list[tuple[str, int]]:
    """Let one fold of a convolution fail, always; what was begun is noted."""
    begun: list[tuple[str, int]] = []

    def run_or_fail(run: Run, data: Any, fold: int, *rest: Any) -> None:
        begun.append((run.network.conv, fold))
        if (run.network.conv, fold) == (conv, number):
            raise error
        run_fold(run, data, fold, *rest)

    monkeypatch.setattr(launch, "run_fold", run_or_fail)
    return begun


def scored(root: Path) -> set[str]:
    """The convolutions whose runs have all their folds and a score."""
    records = [json.loads(path.read_text()) for path in root.glob("submissions/mine/*/run.json")]
    return {record["network"]["conv"] for record in records if "cv" in record}


def test_the_others_are_trained_and_scored_and_the_failure_is_told(
    here: Command, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = fail_at(monkeypatch, "channel-selection", 1, ConfigError("the loss is nan"))

    first, again = here(*SWEEP), here(*SWEEP)

    for outcome in (first, again):
        assert outcome.code == 2
        (told,) = outcome.errors.strip().splitlines()[-1:]
        assert told.startswith("ConfigError: ")
        assert "the loss is nan" in told
    assert "1 of 3 runs failed, first channel-selection-" in first.errors
    assert scored(root) == {"subkernel", "separable"}
    assert begun.count(("subkernel", 0)) == begun.count(("separable", 1)) == 1


def test_a_stop_ends_all_and_what_is_complete_is_scored(
    here: Command, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = fail_at(monkeypatch, "channel-selection", 0, BudgetError("SIGTERM came"))

    assert here(*SWEEP).code == 11

    assert scored(root) == {"subkernel"}
    assert "separable" not in {conv for conv, _ in begun}


def test_a_run_that_lacks_its_score_alone_is_not_launched(
    here: Command, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill behind the last fold leaves it."""
    assert here(*SWEEP).code == 0
    for path in root.glob("submissions/mine/*/run.json"):
        record = json.loads(path.read_text())
        del record["cv"]
        path.write_text(json.dumps(record))
    monkeypatch.setattr("pipeline.stages.sweep.launcher", lambda name: launch_nothing)

    assert here(*SWEEP).code == 0

    assert len(scored(root)) == 3


def launch_nothing(*_: Any) -> None:
    raise AssertionError


def run_on(folder: str, **decisions: Any) -> Run:
    record = {"execution": {"device": "cpu", "precision": "fp32", **decisions}}
    return Run(Path(folder), {**record, "folds": {"count": 1}})


def launched(runs: Sequence[Run]) -> list[list[str]]:
    """The folders of the runs that are launched together."""
    groups: list[list[str]] = []

    def launch_and_note(together: Sequence[Run], *_: object) -> None:
        groups.append([run.folder.name for run in together])

    train_side_by_side(runs, Path(), lambda *_: None, Deadline(), launch_and_note)
    return groups


def test_runs_begun_on_other_machines_are_launched_apart() -> None:
    """A launcher takes device, threads and folds at once from the first run."""
    runs = [
        run_on("a"),
        run_on("b", device="cuda"),
        run_on("c", threads=2),
        run_on("d"),
        run_on("e", folds_at_once=2),
    ]

    assert launched(runs) == [["a", "d"], ["b"], ["c"], ["e"]]


def swept(
    monkeypatch: pytest.MonkeyPatch, metric: str, seeds: Sequence[str] = ("0",)
) -> list[tuple[str, int]]:
    """What a sweep trains; subkernel has the lower score."""
    trained: list[tuple[str, int]] = []

    def train_nothing(variants: Sequence[Settings], *_: Any, **__: Any) -> list[Run]:
        trained.extend((variant.conv, variant.seed) for variant in variants)
        return [scored_run(variant, metric) for variant in variants]

    monkeypatch.setattr("pipeline.stages.sweep.train_all", train_nothing)
    monkeypatch.setattr("pipeline.stages.sweep.prepared", lambda _: nullcontext((None,) * 3))
    settings = Settings(competition="digits", size=16, host="local")
    sweep(settings, ["subkernel", "separable", "subkernel"], seeds)
    return trained


def scored_run(settings: Settings, metric: str) -> Run:
    mean = 0.3 if settings.conv == "subkernel" else 0.4
    cv = {"metric": metric, "mean": mean, "std": 0.0, "folds": [mean]}
    return Run(Path(f"{settings.conv}-{settings.seed}"), {"cv": cv, "seconds": {"train": 60.0}})


@pytest.mark.parametrize(
    ("metric", "best"), [("macro_f1", "separable-0"), ("log_loss", "subkernel-0")]
)
def test_the_better_run_is_advised_in_the_direction_of_the_metric(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], metric: str, best: str
) -> None:
    swept(monkeypatch, metric)

    command = f"make submit COMPETITION=digits RUN={best} SIZE=16 HOST=local"
    assert f"upload one with: {command}\n" in capsys.readouterr().out


def test_what_is_named_twice_is_trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = swept(monkeypatch, "accuracy", ["0", "1", " 1", "00"])

    assert trained == [(conv, seed) for conv in ("subkernel", "separable") for seed in (0, 1)]


def test_a_stop_behind_the_last_step_begins_no_later_stage(
    here: Command, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_and_stop(run: Run, data: Any, fold: int, *rest: Any) -> None:
        run_fold(run, data, fold, *rest)
        if fold == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(launch, "run_fold", run_and_stop)
    predict = ("predict", *SWEEP[1:-2])

    stopped = here(*predict)

    assert stopped.code == 11
    assert "SIGTERM came while training; rerun" in stopped.errors
    assert scored(root) == {"subkernel"}
    assert not list(root.glob("submissions/mine/*/test.csv"))
    assert here(*predict).code == 0
