"""A cell that was stopped goes on, and counts the seconds of all its parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pipeline.errors import BudgetError, LimitError
from pipeline.models import make_model
from pipeline.stages.settings import Settings
from pipeline.studies import reproduce as module
from pipeline.studies.cells import Bench, Cell, Outcome
from pipeline.studies.channel_selection import STUDY
from pipeline.studies.datasets import load_benchmark
from pipeline.studies.fitting import fit
from pipeline.studies.store import read_results
from pipeline.training.recipes import Recipe
from pipeline.training.state import TrainingState

PART = 0.2


def let_a_cell_be_the_study(
    monkeypatch: pytest.MonkeyPatch, measure: Callable[[Bench, Cell], Outcome]
) -> None:
    cell = Cell(study=STUDY.name, part="slow", variant="x", seed=0, measure=measure)
    study = replace(STUDY, cells=lambda scale, seed: [cell], published=[])
    monkeypatch.setattr(module, "chosen_studies", lambda name: [study])


def test_seconds_add_up_over_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stops = [True, True, False]

    def measure(bench: Bench, cell: Cell) -> Outcome:
        time.sleep(PART)
        if stops.pop(0):
            raise BudgetError("the time budget ended")
        return Outcome(figures={"parameters": 1})

    let_a_cell_be_the_study(monkeypatch, measure)
    settings = Settings(host="local", root=tmp_path)
    for _ in range(2):
        with pytest.raises(BudgetError):
            module.reproduce(settings, STUDY.name, "smoke", ["0"])
        assert read_results(tmp_path, STUDY.name, "smoke") == []

    module.reproduce(settings, STUDY.name, "smoke", ["0"])

    (result,) = read_results(tmp_path, STUDY.name, "smoke")
    assert result["seconds"] > 2.5 * PART
    assert not list(tmp_path.rglob("*.seconds.json"))


def test_a_cell_that_fails_behind_its_training_does_not_train_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where its predictions cannot be uploaded today."""
    begun: list[int] = []
    failures = [LimitError("no more submissions today")]

    def measure(bench: Bench, cell: Cell) -> Outcome:
        def watch(state: TrainingState) -> None:
            begun.append(len(state.history))

        data = load_benchmark("digits", "cpu")
        build = partial(make_model, "nntrain-cnn", "subkernel", 1, 10, 0.0)
        recipe = Recipe(epochs=1, batch_size=256)
        found = fit(bench, cell, data, build, recipe, executions="folded", watch=watch)
        if failures:
            raise failures.pop()
        return Outcome(figures={"parameters": found.parameters()})

    let_a_cell_be_the_study(monkeypatch, measure)
    settings = Settings(host="local", root=tmp_path)
    with pytest.raises(LimitError):
        module.reproduce(settings, STUDY.name, "smoke", ["0"])

    module.reproduce(settings, STUDY.name, "smoke", ["0"])

    assert begun == [0, 1]
    assert len(read_results(tmp_path, STUDY.name, "smoke")) == 1
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".pt"]
