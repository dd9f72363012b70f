"""What predicting with several views gains over the plain image, fold by fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.metrics.decisions import Probabilities, default_decision
from pipeline.metrics.registry import Truth

_SMALLEST = 1e-15  # a probability of zero would cost infinitely much


def accuracy_and_loss(truth: Truth, probabilities: Probabilities) -> tuple[float, float]:
    """As validation measures them in training, of class probabilities [N, classes].

    With several labels, accuracy is the share of the labels that are right, and the loss of an
    image is the sum over its labels.
    """
    several = truth.ndim == 2
    decided = default_decision(probabilities.shape[1], multi_label=several).decide(probabilities)
    right = float((decided == truth).mean())
    if several:
        likely = np.where(truth, probabilities, 1 - probabilities)
        return right, float(-np.log(np.maximum(likely, _SMALLEST)).sum(axis=1).mean())
    rows = probabilities / probabilities.sum(axis=1, keepdims=True)
    likely = np.take_along_axis(rows, truth[:, None], axis=1)
    return right, float(-np.log(np.maximum(likely, _SMALLEST)).mean())


def paired(differences: Sequence[float]) -> dict[str, Any]:
    """Mean of the folds' differences, its standard error, and whether it is more than noise.

    Noise is two standard errors, as in a refinement's gain.
    """
    mean = float(np.mean(differences))
    error = float(np.std(differences, ddof=1) / np.sqrt(len(differences)))
    verdict = "within noise" if abs(mean) <= 2 * error else "better" if mean > 0 else "worse"
    return {"mean": mean, "error": error, "noise": 2 * error, "verdict": verdict}
