"""Scores a submission file against the hidden labels, or says why it cannot be scored."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.competition import Competition
from pipeline.host.answers import (
    DEFAULT_METRIC,
    UnscorableError,
    read_answers,
    read_truth,
    reject,
    value_columns,
)
from pipeline.metrics import Metric, metric_named
from pipeline.metrics.decisions import Answers


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one submission: both scores, or an error and no score."""

    public: float | None = None
    private: float | None = None
    error: str = ""


def metric_of(competition: Competition) -> Metric:
    """The competition's metric; accuracy where its definition names none."""
    return metric_named(competition.metric or DEFAULT_METRIC)


def score_submission(csv: Path, competition: Competition, solution: pd.DataFrame) -> Verdict:
    """Score a CSV against the solution (columns label and public, indexed by id)."""
    metric = metric_of(competition)
    try:
        table = _read(csv, competition)
        _check_ids(table.index, solution.index)
        answers = read_answers(table.loc[solution.index], competition)
        truth = read_truth(solution["label"], competition)
        is_public = solution["public"].to_numpy(dtype=bool)
        return Verdict(
            _score(metric, truth[is_public], answers[is_public], "public"),
            _score(metric, truth[~is_public], answers[~is_public], "private"),
        )
    except UnscorableError as err:
        return Verdict(error=str(err))


def _score(metric: Metric, truth: Answers, answers: Answers, part: str) -> float:
    try:
        score = metric.compute(truth, answers)
    except ValueError as err:
        reason = " ".join(str(err).split())
        raise UnscorableError(f"The metric is undefined on the {part} part: {reason}") from err
    if not math.isfinite(score):
        raise UnscorableError(f"The metric is undefined on the {part} part")
    return score


def _read(csv: Path, competition: Competition) -> pd.DataFrame:
    """The submission as text, indexed by id, with the value columns alone."""
    try:
        text = csv.read_bytes().decode("utf-8")
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except (UnicodeDecodeError, ValueError) as err:
        reason = " ".join(str(err).split())
        raise UnscorableError(f"The file is not a CSV in UTF-8: {reason}") from err
    # The first cells of rows that are longer than the header are names of rows to pandas.
    if not isinstance(table.index, pd.RangeIndex):
        raise UnscorableError(f"Rows have more cells than the {len(table.columns)} of the header")
    id_column = competition.submission.id or "id"
    columns = value_columns(competition)
    wanted = [id_column, *columns]
    if sorted(table.columns) != sorted(wanted):
        raise UnscorableError(
            f"Columns are {', '.join(map(str, table.columns))}; expected {', '.join(wanted)}"
        )
    return table.set_index(id_column)[columns]


def _check_ids(found: pd.Index, expected: pd.Index) -> None:
    reject("ids are repeated", found[found.duplicated()])
    reject("ids are unknown", found.difference(expected, sort=False))
    reject("ids are missing", expected.difference(found, sort=False))
