"""Blends of real classifiers, and the honesty of what is said of them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.refine.blending import Blend, hill_climb
from pipeline.refine.gain import gain_of
from pipeline.refine.refinement import Problem, Refitted, Stored, nested
from pipeline.refine.temperature import Temperature
from tests.refine.tables import problem_with

THREE = ("logistic", "neighbours", "bayes")


@pytest.mark.parametrize("metric", ["log_loss", "accuracy"])
def test_a_blend_of_three_classifiers_beats_its_best(metric: str) -> None:
    problem, tables = problem_with(metric, THREE)
    climb = hill_climb(problem, tables)
    result = nested(Blend(), problem, [Stored(table) for table in tables])
    sign = 1 if problem.its_metric.greater_is_better else -1
    alone = [sign * np.mean(problem.scores(problem.answers(table))) for table in tables]

    assert sum(climb.weights) == pytest.approx(1)
    assert sign * np.mean(result.scores) > max(alone)


def test_a_useless_member_gets_no_weight_and_its_gain_is_called_noise() -> None:
    problem, (good,) = problem_with("accuracy", ("neighbours",))
    useless = np.random.default_rng(0).dirichlet(np.ones(10), size=len(good))
    climb = hill_climb(problem, [good, useless])
    result = nested(Blend(), problem, [Stored(good), Stored(useless)])
    gain = gain_of(problem, result.answers, problem.answers(good))

    assert climb.weights[0] > 0.6
    assert gain.verdict == "within noise"


def test_what_makes_a_run_worse_is_called_worse() -> None:
    problem, (good, poor) = problem_with("log_loss", ("neighbours", "tree"))
    gain = gain_of(problem, poor, good)
    assert gain.mean < 0
    assert gain.verdict == "worse"
    assert gain_of(problem, good, poor).verdict == "better"
    assert gain_of(problem, good, good).noise == 0


def test_equal_weights_need_no_labels() -> None:
    problem, tables = problem_with("log_loss", THREE)
    fitted = Blend("equal").fit(problem, tables)
    assert fitted.parameters["weights"] == [1 / 3] * 3
    assert fitted.apply(tables) == pytest.approx(np.mean(tables, axis=0))


@pytest.mark.parametrize("chained", [False, True])
def test_a_folds_labels_change_nothing_of_its_own_predictions(chained: bool) -> None:
    """Not even where what is blended was itself fitted on labels."""
    problem, tables = problem_with("log_loss", THREE)
    shuffled = problem.truth.copy()
    own = problem.fold == 1
    shuffled[own] = np.random.default_rng(0).permutation(shuffled[own])

    def refined(truth: np.ndarray) -> np.ndarray:
        asked = Problem("log_loss", truth, problem.fold)
        sources = [Stored(table) for table in tables]
        if chained:
            cooled = nested(Temperature(), asked, sources[:1]).probabilities
            sources[0] = Refitted(cooled, Temperature(), asked, sources[:1])  # type: ignore[call-overload]
        return nested(Blend(), asked, sources).probabilities

    before, after = refined(problem.truth), refined(shuffled)
    assert (before[own] == after[own]).all()
    assert (before[~own] != after[~own]).any()
