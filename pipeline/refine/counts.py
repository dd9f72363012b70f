"""Metrics of decisions from counts alone, for many decisions at once.

The registry's metrics look at every image. A search over thousands of decisions needs what moves
with them only: how many images of each class are found, and how many are taken for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating[Any]]
FromCounts = Callable[[Numbers, Numbers, Numbers], Numbers]
"""Scores [K] from found [K, C], taken [K, C] and there [C]: images of each class that are rightly
taken for it, that are taken for it, and that are of it."""


def _macro_f1(found: Numbers, taken: Numbers, there: Numbers) -> Numbers:
    mean: Numbers = _divided(2 * found, taken + there).mean(axis=1)
    return mean


def _micro_f1(found: Numbers, taken: Numbers, there: Numbers) -> Numbers:
    """With one label per image this is the accuracy."""
    return _divided(2 * found.sum(axis=1), taken.sum(axis=1) + there.sum())


def _balanced_accuracy(found: Numbers, taken: Numbers, there: Numbers) -> Numbers:
    mean: Numbers = _divided(found, there).mean(axis=1)
    return mean


def _divided(above: Numbers, below: Numbers) -> Numbers:
    quotient: Numbers = above / np.maximum(below, 1)
    return quotient


FROM_COUNTS: dict[str, FromCounts] = {
    "accuracy": _micro_f1,
    "micro_f1": _micro_f1,
    "macro_f1": _macro_f1,
    "balanced_accuracy": _balanced_accuracy,
}


def kappa_from_counts(squares: Numbers, taken: Numbers, there: Numbers) -> Numbers:
    """Quadratic kappa [K] (Cohen 1968).

    Args:
        squares: sum of squared distances between class numbers, [K].
        taken: images that are taken for each class, [K, C].
        there: images of each class, [C].
    """
    numbers = np.arange(len(there))
    cost = (numbers[:, None] - numbers[None, :]) ** 2 @ there / there.sum()
    by_chance = taken @ cost
    kappa: Numbers = 1 - squares / np.where(by_chance > 0, by_chance, np.inf)
    return kappa
