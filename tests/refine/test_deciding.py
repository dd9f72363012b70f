"""Fitted decisions: the searches find what is best, and it holds on images they did not see."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from pipeline.metrics import score
from pipeline.metrics.decisions import Decision
from pipeline.refine import gain as gain_module
from pipeline.refine.deciding import Deciding, fit_decision
from pipeline.refine.gain import gain_of
from pipeline.refine.refinement import Problem, Stored, nested
from pipeline.refine.searches import search_cuts, search_thresholds, search_weights
from tests.refine.tables import folds_of, predicted, problem_with, several_labels


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise of a gain need not be known well here."""
    monkeypatch.setattr(gain_module, "_RESAMPLES", 40)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "micro_f1"])
def test_no_other_weight_of_one_class_is_better_than_the_one_found(metric: str) -> None:
    problem, (table,) = problem_with(metric, ("bayes",), skew=True)
    weights = search_weights(metric, problem.truth, table)
    best = score(metric, problem.truth, table, Decision("weights", tuple(weights)))

    assert best >= score(metric, problem.truth, table)
    for number in range(10):
        for factor in np.exp(np.linspace(-2, 2, 41)):
            other = weights.copy()
            other[number] *= factor
            assert score(metric, problem.truth, table, Decision("weights", tuple(other))) <= best


@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1"])
def test_no_other_threshold_is_better_than_the_one_found(metric: str) -> None:
    problem, (table,) = several_labels(metric)
    thresholds = search_thresholds(metric, problem.truth, table)
    best = score(metric, problem.truth, table, Decision("thresholds", tuple(thresholds)))

    assert best > score(metric, problem.truth, table)
    for number in range(4):
        for value in np.linspace(0.02, 0.98, 49):
            other = thresholds.copy()
            other[number] = value
            decision = Decision("thresholds", tuple(other))
            assert score(metric, problem.truth, table, decision) <= best + 1e-12


def graded() -> tuple[Problem, np.ndarray]:
    """Diabetes' progression in five grades, the low ones frequent, and what is predicted of it."""
    measured, progression = load_diabetes(return_X_y=True)
    grades = np.searchsorted(np.quantile(progression, [0.45, 0.7, 0.85, 0.95]), progression)
    problem = Problem("quadratic_kappa", grades, folds_of(grades))
    return problem, predicted("logistic", 100 * measured, grades, problem.fold)


def test_cuts_raise_kappa_on_folds_that_they_were_not_fitted_on() -> None:
    problem, table = graded()
    cuts = search_cuts(problem.truth, table)
    result = nested(Deciding(), problem, [Stored(table)])
    gain = gain_of(problem, result.answers, problem.answers(table))

    fitted = score("quadratic_kappa", problem.truth, table, Decision("cuts", tuple(cuts)))
    halves = score("quadratic_kappa", problem.truth, table, Decision("cuts", (0.5, 1.5, 2.5, 3.5)))
    assert (np.diff(cuts) >= 0).all()
    assert fitted > halves
    assert gain.verdict == "better"
    assert fit_decision("quadratic_kappa", problem.truth, table).kind == "cuts"


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_weights_help_a_classifier_that_shuns_rare_classes(metric: str) -> None:
    for name, verdict in (("timid", "better"), ("logistic", "within noise")):
        problem, (table,) = problem_with(metric, (name,), skew=True)
        result = nested(Deciding(), problem, [Stored(table)])
        gain = gain_of(problem, result.answers, problem.answers(table))
        assert gain.verdict == verdict
        assert result.scores == pytest.approx(problem.scores(result.answers))


def test_the_same_table_gives_the_same_decision() -> None:
    problem, (table,) = several_labels("macro_f1")
    first = fit_decision("macro_f1", problem.truth, table)
    assert first == fit_decision("macro_f1", problem.truth, table)
    assert first.kind == "thresholds"
