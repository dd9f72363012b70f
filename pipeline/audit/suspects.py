"""Labels that out-of-fold predictions contradict: confident learning.

After Northcutt, Jiang, Chuang, "Confident learning: estimating uncertainty in dataset labels"
(JAIR 2021, arXiv:1911.00068).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def label_suspects(labels: NDArray[Any], probabilities: NDArray[np.float64]) -> pd.DataFrame:
    """Suspect labels, most suspect first.

    A class's threshold is the mean probability that it gets on images labelled so. A label is
    suspect where another class comes closer to its threshold, or further above it, than the label
    does; the lower the label's probability above its threshold, the more. It is confidently so
    where the other class passes its threshold: these count as the paper counts errors.

    Args:
        labels: class numbers int64 [N]; or bool [N, classes], where every cell is a label.
        probabilities: out-of-fold, [N, classes]; of several labels each independent.

    Returns:
        The columns row, class (of several labels the cell's, else the label), stated and
        predicted (class numbers; of several labels 0 or 1), confidence (the probability of what
        is stated), predicted_confidence, score (confidence less its class's threshold) and
        confident.
    """
    if labels.ndim == 1:
        found = _contradicted(labels, probabilities)
        found.insert(1, "class", found["stated"])
    else:
        found = pd.concat(
            [
                _contradicted(
                    labels[:, number].astype(np.int64),
                    np.stack([1 - probabilities[:, number], probabilities[:, number]], axis=1),
                ).assign(**{"class": number})
                for number in range(labels.shape[1])
            ]
        )
    return found.sort_values(["score", "row", "class"], ignore_index=True, kind="stable")


def _contradicted(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> pd.DataFrame:
    rows = np.arange(len(labels))
    thresholds = np.array(
        [
            probabilities[labels == number, number].mean() if (labels == number).any() else np.inf
            for number in range(probabilities.shape[1])
        ]
    )
    above = probabilities - thresholds
    predicted = above.argmax(axis=1)
    table = pd.DataFrame(
        {
            "row": rows,
            "stated": labels,
            "predicted": predicted,
            "confidence": probabilities[rows, labels],
            "predicted_confidence": probabilities[rows, predicted],
            "score": above[rows, labels],
            "confident": above[rows, predicted] >= 0,
        }
    )
    contradicted: pd.DataFrame = table[above[rows, predicted] > above[rows, labels]]
    return contradicted
