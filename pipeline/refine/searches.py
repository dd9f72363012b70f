"""Coordinate ascent for the three kinds of decisions; every line search is exact.

Between two neighbouring values of the data nothing changes, so the candidates are the middles
between them. Of equally good ones the middle one is taken, far from where the score would change.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.decisions import Probabilities, expected_class
from pipeline.refine.counts import FROM_COUNTS, Numbers, kappa_from_counts

_SWEEPS = 20
_CANDIDATES = 512
_ENOUGH = 1e-12
_SMALLEST = 1e-15


def search_weights(metric: str, truth: NDArray[Any], probabilities: Probabilities) -> Numbers:
    """A factor per class [C], their geometric mean one, before the most probable class is taken."""
    classes = probabilities.shape[1]
    logs = np.log(np.maximum(probabilities, _SMALLEST))
    there = np.bincount(truth, minlength=classes)
    weights, best = np.zeros(classes), -np.inf
    for _ in range(_SWEEPS):
        before = best
        for number in range(classes):
            weights[number], best = _best_weight(metric, truth, there, logs, weights, number)
        if best <= before + _ENOUGH:
            break
    factors: Numbers = np.exp(weights - weights.mean())
    return factors


def _best_weight(
    metric: str,
    truth: NDArray[Any],
    there: NDArray[Any],
    logs: Numbers,
    weights: Numbers,
    number: int,
) -> tuple[float, float]:
    """The log-weight of the class `number` that is best beside the others' weights; its score."""
    weighted = logs + weights
    weighted[:, number] = -np.inf
    rival = weighted.argmax(axis=1)
    needed = weighted.max(axis=1) - logs[:, number]
    candidates = np.append(_middles(needed), weights[number])
    candidates.sort()
    passed = np.searchsorted(candidates, needed)  # from this candidate on, the image is taken
    classes = len(there)
    taken = _rows_before(passed, rival, len(candidates), classes)
    right = truth == rival
    found = _rows_before(passed[right], rival[right], len(candidates), classes)
    mine = truth == number
    taken[:, number] = len(truth) - taken.sum(axis=1)
    found[:, number] = np.searchsorted(np.sort(passed[mine]), np.arange(len(candidates)), "right")
    scores = FROM_COUNTS[metric](found, taken, there)
    return _middle_best(candidates, scores)


def _rows_before(
    passed: NDArray[Any], rival: NDArray[Any], candidates: int, classes: int
) -> Numbers:
    """For each candidate and class, the images [candidates, classes] that are still the rival's."""
    cells = np.bincount(passed * classes + rival, minlength=(candidates + 1) * classes)
    from_here = cells.reshape(candidates + 1, classes)[::-1].cumsum(axis=0)[::-1]
    still: Numbers = from_here[1:].astype(np.float64)
    return still


def search_thresholds(metric: str, truth: NDArray[Any], probabilities: Probabilities) -> Numbers:
    """A probability per class [C], from which on the class is among an image's labels."""
    classes = probabilities.shape[1]
    there = truth.sum(axis=0)
    thresholds, best = np.full(classes, 0.5), -np.inf
    decided = probabilities >= thresholds
    found, taken = (decided & truth).sum(axis=0), decided.sum(axis=0)
    for _ in range(_SWEEPS):
        before = best
        for number in range(classes):
            candidates = np.sort(np.append(_middles(probabilities[:, number]), thresholds[number]))
            line = np.repeat([[found, taken]], len(candidates), axis=0).astype(np.float64)
            line[:, 0, number] = _at_least(probabilities[truth[:, number], number], candidates)
            line[:, 1, number] = _at_least(probabilities[:, number], candidates)
            scores = FROM_COUNTS[metric](line[:, 0], line[:, 1], there)
            thresholds[number], best = _middle_best(candidates, scores)
            found[number] = (probabilities[truth[:, number], number] >= thresholds[number]).sum()
            taken[number] = (probabilities[:, number] >= thresholds[number]).sum()
        if best <= before + _ENOUGH:
            break
    return thresholds


def search_cuts(truth: NDArray[Any], probabilities: Probabilities) -> Numbers:
    """Ascending numbers [C - 1] between which the expected class number is rounded, for kappa.

    The search starts at the halves, and where the classes would be as frequent as they are.
    """
    classes = probabilities.shape[1]
    expected = expected_class(probabilities)
    there = np.bincount(truth, minlength=classes)
    frequent = np.quantile(expected, np.cumsum(there)[:-1] / len(truth))
    ends = [
        _climb_cuts(truth, expected, there, np.maximum.accumulate(start))
        for start in (np.arange(classes - 1) + 0.5, frequent)
    ]
    return max(ends, key=lambda end: end[1])[0]


def _climb_cuts(
    truth: NDArray[Any], expected: Numbers, there: NDArray[Any], start: Numbers
) -> tuple[Numbers, float]:
    cuts, best = start.copy(), -np.inf
    for _ in range(_SWEEPS):
        before = best
        for place in range(len(cuts)):
            cuts[place], best = _best_cut(truth, expected, there, cuts, place)
        if best <= before + _ENOUGH:
            break
    return cuts, best


def _best_cut(
    truth: NDArray[Any], expected: Numbers, there: NDArray[Any], cuts: Numbers, place: int
) -> tuple[float, float]:
    """The best value of one cut between its neighbours, and its kappa."""
    low, high = np.concatenate([[-np.inf], cuts, [np.inf]])[[place, place + 2]]
    decided = np.searchsorted(cuts, expected, "right")
    between = (decided == place) | (decided == place + 1)
    candidates = _middles(expected[between])
    candidates = np.sort(
        np.append(candidates[(candidates > low) & (candidates < high)], cuts[place])
    )
    order = np.argsort(expected[between], kind="stable")
    numbers = truth[between][order]
    below = np.searchsorted(expected[between][order], candidates)  # images under each candidate
    elsewhere = ((truth[~between] - decided[~between]) ** 2).sum()
    under = np.concatenate([[0], np.cumsum((numbers - place) ** 2)])
    over = np.concatenate([[0], np.cumsum((numbers - place - 1) ** 2)])
    squares = elsewhere + under[below] + over[-1] - over[below]
    counts = np.bincount(decided, minlength=len(there)).astype(np.float64)
    taken = np.repeat(counts[None], len(candidates), axis=0)
    taken[:, place], taken[:, place + 1] = below, len(numbers) - below
    return _middle_best(candidates, kappa_from_counts(squares, taken, there))


def _at_least(values: Numbers, candidates: Numbers) -> NDArray[Any]:
    """How many values are not below each candidate."""
    return len(values) - np.searchsorted(np.sort(values), candidates)


def _middles(values: Numbers) -> Numbers:
    """The middles between neighbouring values, evenly thinned where they are many."""
    steps = np.unique(values[np.isfinite(values)])
    middles = (steps[1:] + steps[:-1]) / 2
    if len(middles) <= _CANDIDATES:
        return middles
    kept: Numbers = middles[np.linspace(0, len(middles) - 1, _CANDIDATES).astype(int)]
    return kept


def _middle_best(candidates: Numbers, scores: Numbers) -> tuple[float, float]:
    """The middle one of the best candidates, and its score."""
    best = np.flatnonzero(scores >= scores.max() - _ENOUGH)
    place = best[len(best) // 2]
    return float(candidates[place]), float(scores[place])
