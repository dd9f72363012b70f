"""What was decided when a run began is what it computes with, wherever its folds are launched."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.stages.decisions import make_executable
from pipeline.training.execution import Execution
from pipeline.training.run import Run
from tests.training.runs import FP32, digit_images, make_run

DATA = digit_images()


def a_run(folder: Path, **decisions: object) -> Run:
    run = make_run(folder, DATA)
    run.record["asked"] = {"convolutions": "folded", "device": "cpu", "precision": "fp32"}
    run.record["execution"] = {**asdict(FP32), "reasons": {}, **decisions}
    return run


def stored(run: Run) -> Execution:
    return Execution(**json.loads((run.folder / "run.json").read_text())["execution"])


def test_what_processes_cannot_do_together_is_neither_printed_nor_stored(tmp_path: Path) -> None:
    run = a_run(tmp_path, compile=True, convs={"net.stem": "folded"})

    make_executable(run, DATA, "ddp")

    assert run.execution == stored(run)
    assert ("compile", "off", "LAUNCH=ddp") in run.execution.table()
    assert run.execution.convs == {"net.stem": "folded"}  # the rest stays


def test_a_run_that_goes_on_without_a_group_is_decided_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(tmp_path)
    make_executable(run, DATA, "ddp")

    make_executable(run, DATA)

    assert not stored(run).together
    assert "LAUNCH=ddp" not in stored(run).reasons.values()
    assert "is for LAUNCH=ddp: deciding anew" in capsys.readouterr().out


def test_what_is_missing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(tmp_path, norms="native")
    problem = "pipeline.training.execution.native_norms_problem"
    monkeypatch.setattr(problem, lambda: "no C++ compiler was found")

    make_executable(run, DATA)

    assert "no C++ compiler was found: deciding anew" in capsys.readouterr().out
    assert stored(run).norms == "torch"
