"""Class probabilities written as the CSV that a competition wants."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.data.ids import first_repeated
from pipeline.data.submission.form import SubmissionForm
from pipeline.data.tables import write_table
from pipeline.errors import SubmissionError
from pipeline.metrics.decisions import Decision, ranked


def submission_csv(
    form: SubmissionForm, predictions: pd.DataFrame, decision: Decision, source: Path
) -> bytes:
    """The submission in the sample's ids, order and columns, as UTF-8 with line feeds.

    `predictions` has one row per test image, with its id (text) as index, and one column of
    probabilities per class name; `decision` is the rule by which they become labels, with values
    in the order of these columns; `source` is the file that they were read from.

    Raises:
        SubmissionError: an id or a class is missing, an id repeats, or a value is not finite; the
            file to delete is named.
    """
    try:
        _check_classes(form, predictions)
        order = [form.classes.index(str(name)) for name in predictions.columns]
        decision = decision.reordered(order)
        probabilities = _in_order(form, predictions)
    except SubmissionError as err:
        raise SubmissionError(f"{source}: {err}; delete that file and rerun") from err
    table = pd.DataFrame({form.id_column: form.ids}, dtype=object)
    columns = _columns(form, probabilities, decision)
    for name, texts in zip(form.value_columns, columns, strict=True):
        table[name] = list(texts)
    return write_table(table[list(form.columns)])


def _columns(
    form: SubmissionForm, probabilities: NDArray[np.float64], decision: Decision
) -> list[Iterable[str]]:
    """The texts of each value column; `probabilities` is [ids, classes]."""
    if form.values == "probabilities":
        return [_numbers(column) for column in probabilities.T]
    if form.positive is not None:
        return [_numbers(probabilities[:, form.classes.index(form.positive)])]
    if form.ranked:
        return [_cells(form, ranked(probabilities, form.ranked))]
    decided = decision.decide(probabilities)
    if form.values == "indicators":
        return [map(str, column.astype(int)) for column in decided.T]
    if form.values == "labels":
        return [_cells(form, [np.flatnonzero(row) for row in decided])]
    if form.values == "index":
        return [map(str, decided)]
    return [[form.classes[position] for position in decided]]


def _cells(form: SubmissionForm, rows: Iterable[NDArray[np.int64]]) -> Iterable[str]:
    """The names of several classes in each cell."""
    return (form.separator.join(form.classes[position] for position in row) for row in rows)


def _numbers(column: NDArray[np.float64]) -> Iterable[str]:
    return (f"{value:.9g}" for value in column)


def _check_classes(form: SubmissionForm, predictions: pd.DataFrame) -> None:
    missing_classes = sorted(set(form.classes) ^ set(predictions.columns))
    if missing_classes:
        raise SubmissionError(
            f"the predictions' columns and the classes differ in {len(missing_classes)} names, "
            f"first {missing_classes[0]!r}"
        )


def _in_order(form: SubmissionForm, predictions: pd.DataFrame) -> NDArray[np.float64]:
    """Rows in the order of the form's ids, columns in that of its classes, all finite."""
    ids = [str(name) for name in predictions.index]
    count, first = first_repeated(ids)
    if first is not None:
        raise SubmissionError(f"{count} predictions repeat an id, first {first!r}")
    known = set(ids)
    missing = [name for name in form.test_ids if name not in known]
    if missing:
        raise SubmissionError(
            f"{len(missing)} of {len(form.ids)} test ids have no prediction, first {missing[0]!r}"
        )
    rows = predictions.set_axis(ids, axis=0).loc[form.test_ids, list(form.classes)]
    values: NDArray[np.float64] = rows.to_numpy(dtype=np.float64)
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):
        raise SubmissionError(
            f"{len(broken)} predictions are NaN or infinite, first id "
            f"{form.test_ids[broken[0]]!r}: it was cut, or the training diverged"
        )
    return values
