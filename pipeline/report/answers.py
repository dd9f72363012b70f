"""A run's out-of-fold predictions beside the truth: confusion, scores per class, mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    confusion_matrix,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
)

from pipeline.metrics.decisions import Answers, Probabilities
from pipeline.metrics.registry import Truth

MISTAKES_SHOWN = 24
MATRIX_CLASSES = 20
PAIRS_SHOWN = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """Training images with what a run says of them.

    Attributes:
        ids: of the images, [N].
        classes: by number.
        truth: class numbers int64 [N] or, where an image has several labels, bool [N, classes].
        probabilities: out-of-fold, [N, classes].
        decided: as the truth.
    """

    ids: Sequence[str]
    classes: Sequence[str]
    truth: Truth
    probabilities: Probabilities
    decided: Answers

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return bool(self.truth.ndim == 2)


def class_scores(answered: Answered) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of images of each class; 0 where one is undefined."""
    columns = precision_recall_fscore_support(
        answered.truth,
        answered.decided,
        labels=None if answered.multi_label else range(len(answered.classes)),
        zero_division=0,
    )
    return [
        {"class": name, "precision": p, "recall": r, "f1": f, "support": int(support)}
        for name, p, r, f, support in zip(
            answered.classes, *(column.tolist() for column in columns), strict=True
        )
    ]


def confusion(answered: Answered) -> dict[str, Any]:
    """How answers fall, in the form that suits: a matrix, its largest pairs, or counts per label.

    The kinds are "matrix" (rows are the truth), "pairs" (of more than 20 classes) and "labels".
    """
    if answered.multi_label:
        return {"kind": "labels", "rows": _label_counts(answered)}
    numbers = range(len(answered.classes))
    matrix = confusion_matrix(answered.truth, answered.decided, labels=numbers)
    if len(numbers) > MATRIX_CLASSES:
        return {"kind": "pairs", "rows": _most_confused(matrix, answered.classes)}
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows = [
        {"class": name, "counts": counts, "shares": of_row}
        for name, counts, of_row in zip(
            answered.classes, matrix.tolist(), shares.tolist(), strict=True
        )
    ]
    return {"kind": "matrix", "rows": rows}


def _label_counts(answered: Answered) -> list[dict[str, Any]]:
    matrices = multilabel_confusion_matrix(answered.truth, answered.decided)
    keys = ("true_negative", "false_positive", "false_negative", "true_positive")
    return [
        {"class": name, **dict(zip(keys, matrix.ravel().tolist(), strict=True))}
        for name, matrix in zip(answered.classes, matrices, strict=True)
    ]


def _most_confused(matrix: NDArray[Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent pairs of a truth and another answer."""
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS_SHOWN]
    pairs = [divmod(int(place), len(classes)) for place in order]
    return [
        {
            "truth": classes[row],
            "answer": classes[column],
            "count": int(wrong[row, column]),
            "share": float(wrong[row, column] / matrix[row].sum()),
        }
        for row, column in pairs
        if wrong[row, column]
    ]


def confident_mistakes(answered: Answered, count: int = MISTAKES_SHOWN) -> list[dict[str, Any]]:
    """The wrong answers that the run is surest of; `row` is the image's place.

    With several labels an answer is that of one label: present or absent.
    """
    sure = _confidence_of_answers(answered)
    wrong = answered.decided != answered.truth
    order = np.argsort(-np.where(wrong, sure, -1.0), axis=None, kind="stable")[:count]
    places = [np.unravel_index(int(place), wrong.shape) for place in order]
    return [_mistake(answered, place, float(sure[place])) for place in places if wrong[place]]


def _confidence_of_answers(answered: Answered) -> Probabilities:
    """The probability of what was decided: [N], or [N, classes] with several labels."""
    table = answered.probabilities
    if answered.multi_label:
        return np.where(answered.decided, table, 1 - table)
    of_decided: Probabilities = np.take_along_axis(table, answered.decided[:, None], axis=1)[:, 0]
    return of_decided


def _mistake(answered: Answered, place: tuple[Any, ...], confidence: float) -> dict[str, Any]:
    row = int(place[0])
    if answered.multi_label:
        name = answered.classes[int(place[1])]
        said, true = (name, f"no {name}") if answered.decided[place] else (f"no {name}", name)
    else:
        said, true = (answered.classes[int(of[place])] for of in (answered.decided, answered.truth))
    return {
        "row": row,
        "id": answered.ids[row],
        "truth": true,
        "answer": said,
        "confidence": confidence,
    }
