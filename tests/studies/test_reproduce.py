"""A cell that was stopped goes on, and counts the seconds of all its parts."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import BudgetError
from pipeline.stages.settings import Settings
from pipeline.studies import reproduce as module
from pipeline.studies.cells import Bench, Cell, Outcome
from pipeline.studies.channel_selection import STUDY
from pipeline.studies.store import read_results

PART = 0.2


def test_seconds_add_up_over_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stops = [True, True, False]

    def measure(bench: Bench, cell: Cell) -> Outcome:
        time.sleep(PART)
        if stops.pop(0):
            raise BudgetError("the time budget ended")
        return Outcome(figures={"parameters": 1})

    cell = Cell(study=STUDY.name, part="slow", variant="x", seed=0, measure=measure)
    study = replace(STUDY, cells=lambda scale, seed: [cell], published=[])
    monkeypatch.setattr(module, "chosen_studies", lambda name: [study])
    settings = Settings(host="local", root=tmp_path)
    for _ in range(2):
        with pytest.raises(BudgetError):
            module.reproduce(settings, STUDY.name, "smoke", ["0"])
        assert read_results(tmp_path, STUDY.name, "smoke") == []

    module.reproduce(settings, STUDY.name, "smoke", ["0"])

    (result,) = read_results(tmp_path, STUDY.name, "smoke")
    assert result["seconds"] > 2.5 * PART
    assert not list(tmp_path.rglob("*.seconds.json"))
