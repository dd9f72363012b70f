"""How far probabilities can be believed (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.metrics.decisions import Probabilities
from pipeline.metrics.registry import Truth

BINS = 15


def calibration(truth: Truth, probabilities: Probabilities) -> dict[str, Any]:
    """Bins of equal width, each with its mean confidence and the share that is right.

    With one label per image, an answer is the most probable class and its confidence that class's
    probability. With several, every label of every image counts: its probability, and whether the
    image has it. The expected calibration error is the mean over the bins, weighted by their
    answers, of |share that is right - mean confidence|; a bin holds its upper edge, not its lower.

    Args:
        truth: class numbers int64 [N] or, with several labels, bool [N, classes].
        probabilities: [N, classes].
    """
    if truth.ndim == 2:
        sure, right = probabilities.ravel(), truth.ravel()
    else:
        sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    place = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    bins = []
    for number in np.unique(place):
        inside = place == number
        bins.append(
            {
                "from": float(number / BINS),
                "to": float((number + 1) / BINS),
                "count": int(inside.sum()),
                "confidence": float(sure[inside].mean()),
                "right": float(right[inside].mean()),
            }
        )
    error = sum(each["count"] * abs(each["right"] - each["confidence"]) for each in bins)
    return {"bins": bins, "error": error / len(sure), "count": len(sure)}
