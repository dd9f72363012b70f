"""Fitting the rule by which probabilities become answers, for a metric of decisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.metrics.decisions import Decision, Probabilities
from pipeline.metrics.registry import Truth
from pipeline.refine.refinement import Fitted, Problem, Tables
from pipeline.refine.searches import search_cuts, search_thresholds, search_weights


@dataclass(frozen=True, slots=True)
class Deciding:
    """The decision on one run's probabilities that is best for the metric."""

    kind: str = "thresholds"

    def fit(self, problem: Problem, tables: Tables) -> Fitted:
        """Fit it on the one table, which stays as it is."""
        (probabilities,) = tables
        decision = fit_decision(problem.metric, problem.truth, probabilities)
        return Fitted(lambda given: given[0], {}, decision)


def fit_decision(metric: str, truth: Truth, probabilities: Probabilities) -> Decision:
    """Weights per class or, for quadratic kappa, cuts; with several labels thresholds per class.

    Args:
        metric: one that compares decisions.
        truth: class numbers int64 [N], or bool [N, classes].
        probabilities: [N, classes].
    """
    if truth.ndim == 2:
        return _decision("thresholds", search_thresholds(metric, truth, probabilities))
    if metric == "quadratic_kappa":
        return _decision("cuts", search_cuts(truth, probabilities))
    return _decision("weights", search_weights(metric, truth, probabilities))


def _decision(kind: str, values: Probabilities) -> Decision:
    return Decision(kind, tuple(float(value) for value in np.asarray(values)))
