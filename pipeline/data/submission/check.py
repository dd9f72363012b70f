"""The check before an upload: each rule fails with its name, a count and the first offending id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.data.submission.form import SubmissionForm
from pipeline.data.tables import read_table
from pipeline.errors import SubmissionError
from pipeline.reading import read_errors

SUM_TOLERANCE = 0.01
_MISSING = {"", "nan", "na", "n/a", "<na>", "null", "none"}
_HASHED_DIGITS = 6


def check_submission(csv: Path, form: SubmissionForm) -> None:
    """Refuse a submission that the competition would refuse or score as nonsense.

    Raises:
        SubmissionError: a rule is broken; the first broken one is named.
    """
    table = _read(csv, form)
    _check_ids(csv, list(table[form.id_column]), form)
    if form.values in {"label", "index"}:
        _check_labels(csv, table[form.value_columns[0]], form)
    elif form.values == "labels":
        _check_cells(csv, table[form.value_columns[0]], form)
    elif form.values == "indicators":
        _check_indicators(csv, table, form)
    else:
        _check_probabilities(csv, table, form)


def predictions_sha256(csv: Path, form: SubmissionForm) -> str:
    """The same for two files that say the same of every id, in any order, to six digits.

    Raises:
        SubmissionError: the file is no CSV with the form's columns.
    """
    table = _read(csv, form)
    are_numbers = form.values in {"probability", "probabilities"}
    says: Callable[[str], str] = _six_digits if are_numbers else str
    rows = sorted(
        [name, *map(says, values)]
        for name, *values in table[[form.id_column, *form.value_columns]].itertuples(index=False)
    )
    content = json.dumps([form.values, form.value_columns, rows])
    return hashlib.sha256(content.encode()).hexdigest()


def _six_digits(text: str) -> str:
    try:
        return f"{round(float(text), _HASHED_DIGITS) + 0.0:.{_HASHED_DIGITS}f}"
    except ValueError:
        return text


def _read(csv: Path, form: SubmissionForm) -> pd.DataFrame:
    with read_errors(csv):
        exists = csv.is_file()
    if not exists:
        raise SubmissionError(f"{csv} does not exist; make the submission first")
    table = read_table(csv, SubmissionError)
    found, expected = [str(name) for name in table.columns], list(form.columns)
    if found == expected:
        return table
    different = [name for name in expected if name not in found] or [
        name for name in found if name not in expected
    ]
    what = f"first difference {different[0]!r}" if different else "in another order"
    raise SubmissionError(
        f"{csv}: columns: {', '.join(found[:10])} instead of {', '.join(expected[:10])}, {what}; "
        "nothing was uploaded, write it in the form of the sample submission"
    )


def _check_ids(csv: Path, ids: list[str], form: SubmissionForm) -> None:
    repeated = pd.Series(ids, dtype=object).duplicated().to_numpy(dtype=bool)
    _refuse(csv, "duplicate ids", repeated, ids)
    expected = set(form.ids)
    _refuse(csv, "unknown ids", np.array([name not in expected for name in ids], dtype=bool), ids)
    found = set(ids)
    missing = np.array([name not in found for name in form.ids], dtype=bool)
    rule = f"row count {len(ids)}, not {len(form.ids)}: missing ids"
    _refuse(csv, rule, missing, form.ids)
    moved = np.array([a != b for a, b in zip(ids, form.ids, strict=True)], dtype=bool)
    _refuse(csv, "order of ids differs from the sample submission", moved, ids)


def _check_labels(csv: Path, column: pd.Series, form: SubmissionForm) -> None:
    is_index = form.values == "index"
    known = {str(n) for n in range(len(form.classes))} if is_index else set(form.classes)
    texts = list(column)
    unknown = np.array([text not in known for text in texts], dtype=bool)
    missing = unknown & np.array([text.strip().lower() in _MISSING for text in texts], dtype=bool)
    _refuse(csv, "missing values", missing, form.ids, texts)
    what = f"class indices 0 to {len(form.classes) - 1}" if is_index else "class names"
    _refuse(csv, f"values that are no {what}", unknown, form.ids, texts)
    _check_not_constant(csv, str(column.name), np.array(texts), form)


def _check_cells(csv: Path, column: pd.Series, form: SubmissionForm) -> None:
    """Several class names in each cell."""
    texts = list(column)
    names = [text.split(form.separator) if text else [] for text in texts]
    known = set(form.classes)
    unknown = np.array([not known.issuperset(row) for row in names], dtype=bool)
    _refuse(csv, "cells with a name that is no class", unknown, form.ids, texts)
    repeated = np.array([len(set(row)) != len(row) for row in names], dtype=bool)
    _refuse(csv, "cells that name a class twice", repeated, form.ids, texts)
    if form.ranked:
        wrong = np.array([not 1 <= len(row) <= form.ranked for row in names], dtype=bool)
        rule = f"cells that do not name 1 to {form.ranked} classes"
        _refuse(csv, rule, wrong, form.ids, texts)
    _check_not_constant(csv, str(column.name), np.array(texts), form)


def _check_indicators(csv: Path, table: pd.DataFrame, form: SubmissionForm) -> None:
    for name in form.value_columns:
        texts = list(table[name])
        unknown = np.array([text not in {"0", "1"} for text in texts], dtype=bool)
        _refuse(csv, f"values that are neither 0 nor 1 in {name!r}", unknown, form.ids, texts)
    rows = np.array([" ".join(row) for row in table[form.value_columns].to_numpy()])
    _check_not_constant(csv, ", ".join(form.value_columns[:3]), rows, form)


def _check_probabilities(csv: Path, table: pd.DataFrame, form: SubmissionForm) -> None:
    columns = form.value_columns
    values = np.empty((len(form.ids), len(columns)))
    for position, name in enumerate(columns):
        texts = list(table[name])
        missing = np.array([text.strip().lower() in _MISSING for text in texts], dtype=bool)
        _refuse(csv, f"missing values (NaN) in {name!r}", missing, form.ids, texts)
        numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
        _refuse(csv, f"values that are no number in {name!r}", np.isnan(numbers), form.ids, texts)
        _refuse(csv, f"infinite values in {name!r}", np.isinf(numbers), form.ids, texts)
        outside = (numbers < 0) | (numbers > 1)
        _refuse(csv, f"probabilities outside [0, 1] in {name!r}", outside, form.ids, texts)
        values[:, position] = numbers
    if form.values == "probabilities" and not form.multi_label:
        sums = values.sum(axis=1)
        rule = f"probabilities that do not add up to 1 within {SUM_TOLERANCE}"
        _refuse(csv, rule, abs(sums - 1) > SUM_TOLERANCE, form.ids, [f"{x:g}" for x in sums])
    for position, name in enumerate(columns):
        _check_not_constant(csv, name, values[:, position], form)


def _check_not_constant(
    csv: Path, name: str, values: NDArray[np.float64] | NDArray[np.str_], form: SubmissionForm
) -> None:
    if len(values) > 1 and (values == values[0]).all():
        rule = f"constant column {name!r}: one value"
        texts = [str(value) for value in values]
        _refuse(csv, rule, np.ones(len(values), dtype=bool), form.ids, texts)


def _refuse(
    csv: Path,
    rule: str,
    offending: NDArray[np.bool_],
    ids: list[str],
    texts: list[str] | None = None,
) -> None:
    """Raise the rule's failure if any row offends; `texts` are the values to show."""
    count = int(offending.sum())
    if not count:
        return
    first = int(offending.argmax())
    value = "" if texts is None else f" ({texts[first][:40]!r})"
    raise SubmissionError(
        f"{csv}: {rule}: {count} of {len(ids)}, first id {ids[first]!r}{value}; "
        "nothing was uploaded, mend the predictions and write it again"
    )
