"""Which column of a table is what: the definition's word, else the only sensible reading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.competition import Competition
from pipeline.data.questions import to_decide
from pipeline.data.sample import Sample

_LABEL_NAMES = {"label", "labels", "class", "class_name", "classname", "target", "category"}


def named_column(
    competition: Competition, key: str, columns: Sequence[str], path: Path
) -> str | None:
    """The column that the definition's `[data] key` names, None where it names none.

    Raises:
        ConfigError: the table has no such column.
    """
    name: str | None = getattr(competition.data, key)
    if name is not None and name not in columns:
        raise to_decide(competition, f"[data] {key}", f"{path} has no column {name!r}", columns)
    return name


def label_columns(
    competition: Competition, candidates: Sequence[str], path: Path, sample: Sample | None
) -> list[str]:
    """The columns of 0 and 1, one per class: those named, or the sample's where it has several.

    Empty where the labels stand in one column.

    Raises:
        ConfigError: the table has no such column.
    """
    named = competition.data.label_columns
    absent = [name for name in named if name not in candidates]
    if absent:
        problem = f"{path} has no column {absent[0]!r}"
        raise to_decide(competition, "[data] label_columns", problem, candidates)
    if named or competition.data.label_column is not None or sample is None:
        return list(named)
    targets = sample.target_columns
    return targets if len(targets) > 1 and set(targets) <= set(candidates) else []


def label_column(
    competition: Competition, candidates: Sequence[str], path: Path, sample: Sample | None
) -> str:
    """The column of labels: the only candidate, the sample's target, or one of a usual name.

    Raises:
        ConfigError: several columns could be meant, or none.
    """
    named = named_column(competition, "label_column", candidates, path)
    if named is not None:
        return named
    predicted = set(sample.target_columns) if sample else set()
    for narrowed in (
        list(candidates),
        [name for name in candidates if name in predicted],
        [name for name in candidates if name.lower() in _LABEL_NAMES],
    ):
        if len(narrowed) == 1:
            return narrowed[0]
    raise to_decide(
        competition,
        "[data] label_column",
        f"{path}: cannot tell which column holds the labels",
        candidates,
    )
