"""Scores a submission file against the hidden labels, or says why it cannot be scored."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from pipeline.competition import Competition
from pipeline.data.submission.check import SUM_TOLERANCE


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one submission: both scores, or an error and no score."""

    public: float | None = None
    private: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of (labels, predictions, competition) and the values it wants in the CSV."""

    score: Callable[[pd.Series, pd.DataFrame, Competition], float]
    values: str
    greater_is_better: bool = True


class _UnscorableError(Exception):
    """The file does not match what the competition asks for."""


def _accuracy(labels: pd.Series, table: pd.DataFrame, competition: Competition) -> float:
    return float(accuracy_score(labels, table.iloc[:, 0]))


def _log_loss(labels: pd.Series, table: pd.DataFrame, competition: Competition) -> float:
    # scikit-learn wants the columns in sorted class order.
    names = sorted(competition.classes)
    values = table[names].to_numpy(dtype=float)
    return float(log_loss(labels, values / values.sum(axis=1, keepdims=True), labels=names))


def _roc_auc(labels: pd.Series, table: pd.DataFrame, competition: Competition) -> float:
    positive = competition.submission.positive or competition.classes[-1]
    return float(roc_auc_score(labels == positive, table.iloc[:, 0].to_numpy(dtype=float)))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(_accuracy, "label"),
    "log_loss": Metric(_log_loss, "probabilities", greater_is_better=False),
    "roc_auc": Metric(_roc_auc, "probability"),
}


def metric_of(competition: Competition) -> Metric:
    """The competition's metric; accuracy where its definition names none."""
    return METRICS[competition.metric or "accuracy"]


def score_submission(csv: Path, competition: Competition, solution: pd.DataFrame) -> Verdict:
    """Score a CSV against the solution (columns label and public, indexed by id)."""
    metric = metric_of(competition)
    try:
        table = _read(csv, competition, metric)
        _check_ids(table.index, solution.index)
        _check_values(table, competition, metric)
    except _UnscorableError as err:
        return Verdict(error=str(err))
    table = table.loc[solution.index]
    public, private = (
        metric.score(solution["label"][part], table[part], competition)
        for part in (solution["public"], ~solution["public"])
    )
    return Verdict(public, private)


def _read(csv: Path, competition: Competition, metric: Metric) -> pd.DataFrame:
    """The submission as text, indexed by id, with the value columns alone."""
    try:
        text = csv.read_bytes().decode("utf-8")
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except (UnicodeDecodeError, ValueError) as err:
        reason = " ".join(str(err).split())
        raise _UnscorableError(f"The file is not a CSV in UTF-8: {reason}") from err
    id_column = competition.submission.id or "id"
    target = competition.submission.target or "label"
    columns = list(competition.classes) if metric.values == "probabilities" else [target]
    wanted = [id_column, *columns]
    if sorted(table.columns) != sorted(wanted):
        raise _UnscorableError(
            f"Columns are {', '.join(map(str, table.columns))}; expected {', '.join(wanted)}"
        )
    return table.set_index(id_column)[columns]


def _check_ids(found: pd.Index, expected: pd.Index) -> None:
    _reject("ids are repeated", found[found.duplicated()])
    _reject("ids are unknown", found.difference(expected, sort=False))
    _reject("ids are missing", expected.difference(found, sort=False))


def _check_values(table: pd.DataFrame, competition: Competition, metric: Metric) -> None:
    if metric.values == "label":
        known = table.iloc[:, 0].isin(competition.classes)
        kind = f"labels are not one of {', '.join(competition.classes)}"
        _reject(kind, table.index[~known])
        return
    numbers = table.apply(pd.to_numeric, errors="coerce")
    inside = (np.isfinite(numbers) & numbers.ge(0) & numbers.le(1)).all(axis=1)
    _reject("rows have a value that is not a probability in [0, 1]", table.index[~inside])
    if metric.values == "probabilities":
        sums = (numbers.sum(axis=1) - 1).abs() <= SUM_TOLERANCE
        _reject("rows have probabilities that do not add up to 1", table.index[~sums])


def _reject(what: str, ids: Iterable[str]) -> None:
    offending = list(ids)
    if offending:
        raise _UnscorableError(f"{len(offending)} {what}, first id {offending[0]!r}")
