"""Blends: greedy selection with replacement (Caruana et al. 2004, "Ensemble selection from
libraries of models"), or equal weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.metrics.decisions import Probabilities
from pipeline.refine.refinement import Fitted, Problem, Tables

How = Literal["greedy", "equal"]
_STEPS = 60
_PATIENCE = 10


@dataclass(frozen=True, slots=True)
class Blend:
    """A weighted mean of the runs' probabilities."""

    how: How = "greedy"
    kind: str = "blend"

    def fit(self, problem: Problem, tables: Tables) -> Fitted:
        """Choose the weights; greedily, each step of the climb is kept for the record."""
        if self.how == "equal":
            return _with_weights([1 / len(tables)] * len(tables), [])
        climb = hill_climb(problem, tables)
        return _with_weights(climb.weights, climb.scores)


def _with_weights(weights: list[float], path: list[float]) -> Fitted:
    return Fitted(lambda tables: weighted(tables, weights), {"weights": weights, "path": path})


def weighted(tables: Tables, weights: list[float]) -> Probabilities:
    """The weighted mean [N, classes] of the tables."""
    return np.tensordot(np.array(weights), np.stack(tables), axes=1)


@dataclass(frozen=True, slots=True)
class Climb:
    """Weights that add up to one, and the score of the blend after every step."""

    weights: list[float]
    scores: list[float]


def hill_climb(problem: Problem, tables: Tables) -> Climb:
    """Add, again and again, the run that makes the mean score best, until none has for ten steps.

    The best blend on the way is taken, the smallest of equally good ones.
    """
    total = np.zeros_like(tables[0])
    chosen: list[int] = []
    scores: list[float] = []
    while len(chosen) < _STEPS and len(chosen) - _best(problem, scores) <= _PATIENCE:
        added = [_score(problem, (total + table) / (len(chosen) + 1)) for table in tables]
        best = _best(problem, added)
        total = total + tables[best]
        chosen.append(best)
        scores.append(added[best])
    steps = chosen[: _best(problem, scores) + 1]
    return Climb([steps.count(place) / len(steps) for place in range(len(tables))], scores)


def _score(problem: Problem, probabilities: Probabilities) -> float:
    return problem.its_metric.compute(problem.truth, problem.answers(probabilities))


def _best(problem: Problem, scores: list[float]) -> int:
    """The place of the first best score; 0 where there is none yet."""
    sign = 1 if problem.its_metric.greater_is_better else -1
    return max(range(len(scores)), key=lambda place: sign * scores[place], default=0)
