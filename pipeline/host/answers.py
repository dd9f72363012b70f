"""Reads the values of a submission, and of the hidden labels, into what a metric compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from pipeline.competition import Competition
from pipeline.data.submission.check import SUM_TOLERANCE
from pipeline.metrics import metric_named
from pipeline.metrics.decisions import Answers

DEFAULT_METRIC = "accuracy"
_NOTHING = -1  # a place of a ranking that was left out: it is no class


class UnscorableError(Exception):
    """The file does not match what the competition asks for."""


def values_of(competition: Competition) -> str:
    """What the competition's submissions hold; class names where its definition says nothing."""
    return competition.submission.values or "label"


def value_columns(competition: Competition) -> list[str]:
    """The columns of a submission beside the id."""
    if values_of(competition) in {"probabilities", "indicators"}:
        return list(competition.classes)
    return [competition.submission.target or "label"]


def separator_of(competition: Competition) -> str:
    """What stands between the labels of one cell."""
    return competition.data.label_separator or " "


def compared_classes(competition: Competition) -> list[str]:
    """The classes in the order of their numbers; the one that a lone probability means is last."""
    classes = list(competition.classes)
    positive = competition.submission.positive
    if values_of(competition) == "probability" and positive is not None:
        classes.sort(key=lambda name: name == positive)
    return classes


def read_truth(labels: pd.Series, competition: Competition) -> Answers:
    """Hidden labels as class numbers int64 [N] or, of several each, bool [N, classes]."""
    classes = compared_classes(competition)
    if competition.multi_label:
        return _members([_split(text, competition) for text in labels], classes)
    return _numbers_of(labels, classes)


def read_answers(table: pd.DataFrame, competition: Competition) -> Answers:
    """A submission's value columns, text by id, as its metric wants them.

    Raises:
        UnscorableError: a cell does not hold what the competition asks for.
    """
    return _READERS[values_of(competition)](table, competition)


def reject(what: str, ids: Iterable[str], shown: str = "") -> None:
    """Refuse the file if there are such ids.

    Raises:
        UnscorableError: names how many, and the first with what was found there.
    """
    offending = list(ids)
    if offending:
        found = f" ({shown[:40]!r})" if shown else ""
        raise UnscorableError(f"{len(offending)} {what}, first id {offending[0]!r}{found}")


def _label(table: pd.DataFrame, competition: Competition) -> Answers:
    classes = compared_classes(competition)
    cells = table.iloc[:, 0]
    _reject_cells(f"labels are not one of {', '.join(classes)}", cells, ~cells.isin(classes))
    return _numbers_of(cells, classes)


def _index(table: pd.DataFrame, competition: Competition) -> Answers:
    known = [str(number) for number in range(len(competition.classes))]
    cells = table.iloc[:, 0]
    _reject_cells(f"labels are not a number from 0 to {known[-1]}", cells, ~cells.isin(known))
    numbers: Answers = cells.to_numpy(dtype=np.int64)
    return numbers


def _labels(table: pd.DataFrame, competition: Competition) -> Answers:
    """Several class names in each cell: a ranking, or the labels that an image has."""
    classes = compared_classes(competition)
    cells = table.iloc[:, 0]
    names = cells.map(lambda text: _split(text, competition))
    unknown = names.map(lambda row: not set(row) <= set(classes))
    _reject_cells(f"cells hold a label that is not one of {', '.join(classes)}", cells, unknown)
    repeated = names.map(lambda row: len(set(row)) < len(row))
    _reject_cells("cells repeat a label", cells, repeated)
    if competition.multi_label:
        return _members(names, classes)
    length = metric_named(competition.metric or DEFAULT_METRIC).length
    counts = names.map(len)
    _reject_cells(f"cells do not hold 1 to {length} labels", cells, ~counts.between(1, length))
    ranking = np.full((len(cells), length), _NOTHING)
    for places, row in zip(ranking, names, strict=True):
        places[: len(row)] = _numbers_of(row, classes)
    return ranking


def _indicators(table: pd.DataFrame, competition: Competition) -> Answers:
    known = table.isin(["0", "1"]).all(axis=1)
    reject("rows have a value that is neither 0 nor 1", table.index[~known])
    members: Answers = table.to_numpy() == "1"
    return members


def _probabilities(table: pd.DataFrame, competition: Competition) -> Answers:
    numbers = table.apply(pd.to_numeric, errors="coerce")
    inside = (np.isfinite(numbers) & numbers.ge(0) & numbers.le(1)).all(axis=1)
    reject("rows have a value that is not a probability in [0, 1]", table.index[~inside])
    if values_of(competition) == "probabilities" and not competition.multi_label:
        sums = (numbers.sum(axis=1) - 1).abs() <= SUM_TOLERANCE
        reject("rows have probabilities that do not add up to 1", table.index[~sums])
    probabilities: Answers = numbers.to_numpy(dtype=np.float64)
    return probabilities


def _probability(table: pd.DataFrame, competition: Competition) -> Answers:
    positive = _probabilities(table, competition)
    return np.hstack([1 - positive, positive])


_READERS: dict[str, Callable[[pd.DataFrame, Competition], Answers]] = {
    "label": _label,
    "index": _index,
    "labels": _labels,
    "indicators": _indicators,
    "probabilities": _probabilities,
    "probability": _probability,
}


def _reject_cells(what: str, cells: pd.Series, offending: pd.Series) -> None:
    wrong = cells[offending.astype(bool)]
    reject(what, wrong.index, wrong.iloc[0] if len(wrong) else "")


def _split(cell: str, competition: Competition) -> list[str]:
    return cell.split(separator_of(competition)) if cell else []


def _numbers_of(names: Iterable[str], classes: list[str]) -> Answers:
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def _members(rows: Iterable[list[str]], classes: list[str]) -> Answers:
    return np.array([[name in row for name in classes] for row in rows], dtype=bool)
