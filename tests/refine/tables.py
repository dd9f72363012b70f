"""Out-of-fold probabilities of real classifiers on handwritten digits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from pipeline.metrics.decisions import Probabilities
from pipeline.refine.refinement import Problem

FOLDS = 4
CLASSIFIERS: dict[str, Any] = {
    "logistic": LogisticRegression(C=0.003, max_iter=400),
    "timid": LogisticRegression(
        C=0.0001, max_iter=400
    ),  # so regularised that it shuns rare classes
    "neighbours": KNeighborsClassifier(15, weights="distance"),
    "bayes": GaussianNB(var_smoothing=0.1),
    "tree": DecisionTreeClassifier(max_depth=8, random_state=0),
}


@cache
def digits(noise: float = 6.0) -> tuple[Any, Any]:
    """900 digits under noise, so that there is something left to gain."""
    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    return (images + noise * random.normal(size=images.shape))[:900], labels[:900]


@cache
def skewed() -> tuple[Any, Any]:
    """The same with ever fewer images of the higher digits."""
    images, labels = digits()
    kept = [np.flatnonzero(labels == digit)[: 85 - 8 * digit] for digit in range(10)]
    rows = np.sort(np.concatenate(kept))
    return images[rows], labels[rows]


def folds_of(labels: Any) -> Any:
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    fold = np.empty(len(labels), dtype=np.int64)
    for number, (_, valid) in enumerate(splitter.split(labels, labels)):
        fold[valid] = number
    return fold


def predicted(name: str, images: Any, labels: Any, fold: Any) -> Probabilities:
    """What the classifier says of every image without having seen its fold; labels may be many."""
    splits = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(FOLDS)]
    classifier = CLASSIFIERS[name]
    if labels.ndim == 2:
        classifier, labels = OneVsRestClassifier(classifier), labels.astype(int)
    table: Probabilities = cross_val_predict(
        classifier, images, labels, cv=splits, method="predict_proba"
    )
    return table


@cache
def problem_with(
    metric: str, names: Sequence[str], *, skew: bool = False
) -> tuple[Problem, list[Probabilities]]:
    """The metric on digits, and a table per classifier."""
    images, labels = skewed() if skew else digits()
    fold = folds_of(labels)
    return Problem(metric, labels, fold), [predicted(n, images, labels, fold) for n in names]


@cache
def several_labels(metric: str) -> tuple[Problem, list[Probabilities]]:
    """Digits that are even, above six, prime, eight: none to three labels per image."""
    images, digit = digits()
    labels = np.stack([digit % 2 == 0, digit > 6, np.isin(digit, [2, 3, 5, 7]), digit == 8], 1)
    fold = folds_of(digit)
    return Problem(metric, labels, fold), [predicted("logistic", images, labels, fold)]
