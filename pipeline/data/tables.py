"""CSV files as text: no value is ever taken for a number, so "0001" stays "0001"."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pandas as pd

from pipeline.errors import DataError, PipelineError
from pipeline.reading import read_errors


def read_table(
    path: Path, error: type[PipelineError] = DataError, limit: int | None = None
) -> pd.DataFrame:
    """A CSV's rows (the first `limit`) as strings; a byte order mark and blank lines are dropped.

    Raises:
        error: the file is not UTF-8, has no header, has a column twice, or has a row of another
            length than the header.
        StorageError: the file may not be read.
    """
    try:
        with read_errors(path), path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            # line_num counts the lines of the file: a quoted field may hold several.
            filled = ((lines.line_num, row) for row in lines if not _is_blank(row))
            _, header = next(filled, (0, []))
            rows = list(islice(filled, limit))
    except (UnicodeDecodeError, csv.Error) as err:
        raise error(f"{path} is not a CSV in UTF-8 ({err}); save it again as one") from err
    _check_header(path, header, error)
    odd = [line for line, row in rows if len(row) != len(header)]
    if odd:
        raise error(
            f"{path}: {len(odd)} rows do not have the header's {len(header)} fields, "
            f"first in line {odd[0]}; correct them"
        )
    return pd.DataFrame([row for _, row in rows], columns=pd.Index(header, dtype=object))


def read_header(path: Path) -> list[str]:
    """A CSV's column names.

    Raises:
        DataError: as `read_table`.
    """
    return list(read_table(path, limit=0).columns)


def has_another_separator(header: Sequence[str]) -> bool:
    """Whether what was read as one column is several, with semicolons or tabs between them."""
    return len(header) == 1 and any(separator in header[0] for separator in ";\t")


def write_table(table: pd.DataFrame) -> bytes:
    """The rows as CSV in UTF-8 with line feeds."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.itertuples(index=False, name=None))
    return buffer.getvalue().encode()


def _is_blank(row: list[str]) -> bool:
    """Whether pandas skips such a line too, and Kaggle with it."""
    return len(row) < 2 and not "".join(row).strip(" \t")


def _check_header(path: Path, header: list[str], error: type[PipelineError]) -> None:
    if not header:
        raise error(f"{path} is empty; a header line is expected")
    repeated = [name for name in header if header.count(name) > 1]
    if repeated:
        raise error(f"{path}: column {repeated[0]!r} appears twice; rename one")
