"""The competition's own sample submission: the ids to predict and the form to write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.competition import Competition
from pipeline.data.ids import first_repeated
from pipeline.data.questions import to_decide
from pipeline.data.tables import has_another_separator, read_table
from pipeline.errors import DataError

_SAMPLE_NAME = re.compile(r"submission|^sample$", re.IGNORECASE)
_ID_NAME = re.compile(
    r"^(id|image|img|filename|file_?name|file|name|image_?name)$|id$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Sample:
    """The sample's rows as text, in the sample's order."""

    path: Path
    table: pd.DataFrame
    id_column: str

    @property
    def ids(self) -> list[str]:
        """The ids, in the sample's order."""
        return list(self.table[self.id_column])

    @property
    def target_columns(self) -> list[str]:
        """All columns but the id, in the sample's order."""
        return [name for name in self.table.columns if name != self.id_column]


def find_sample(raw: Path, competition: Competition) -> Sample | None:
    """The sample submission in the raw folder or one folder below, None where there is none.

    Raises:
        ConfigError: several files or columns could be meant, or the named one is not there.
        DataError: the file is damaged, empty or repeats an id.
    """
    path = _sample_path(raw, competition)
    if path is None:
        return None
    table = read_table(path)
    if has_another_separator(list(table.columns)):
        raise DataError(f"{path} has no commas between its columns; save it with commas")
    if table.empty or len(table.columns) < 2:
        raise DataError(f"{path} needs an id column, a value column and rows; download it again")
    sample = Sample(path, table, _id_column(table, path, competition))
    count, first = first_repeated(sample.ids)
    if first is not None:
        raise DataError(
            f"{path}: {count} ids of column {sample.id_column!r} repeat an earlier one, "
            f"first {first!r}; correct the file, or set `[submission] id` to another column"
        )
    return sample


def _sample_path(raw: Path, competition: Competition) -> Path | None:
    key = "[submission] sample"
    named = competition.submission.sample
    if named is not None:
        if not (raw / named).is_file():
            raise to_decide(competition, key, f"{raw / named} does not exist")
        return raw / named
    found = [
        path.relative_to(raw).as_posix()
        for path in sorted([*raw.glob("*.csv"), *raw.glob("*/*.csv")])
        if _SAMPLE_NAME.search(path.stem) and path.is_file()
    ]
    if len(found) > 1:
        raise to_decide(competition, key, f"{raw} has several sample submissions", found)
    return raw / found[0] if found else None


def _id_column(table: pd.DataFrame, path: Path, competition: Competition) -> str:
    key = "[submission] id"
    named = competition.submission.id
    if named is not None:
        if named not in table.columns:
            raise to_decide(competition, key, f"{path} has no column {named!r}", [*table.columns])
        return named
    distinct = [str(name) for name in table.columns if table[name].is_unique]
    if len(distinct) == 1:
        return distinct[0]
    named_like_ids = [name for name in table.columns if _ID_NAME.search(name)]
    if len(named_like_ids) == 1:
        return str(named_like_ids[0])
    raise to_decide(
        competition, key, f"{path}: cannot tell which column holds the ids", [*table.columns]
    )
