"""The layout of one CSV row per image, with a column per pixel (digit-recognizer)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.competition import Competition
from pipeline.data.columns import label_column, named_column
from pipeline.data.images import PixelArray
from pipeline.data.layouts.array_images import to_images
from pipeline.data.layouts.parts import RawPart
from pipeline.data.layouts.positional_ids import sample_ids_by_position
from pipeline.data.layouts.raw_files import RawFiles, Split, split_of
from pipeline.data.questions import to_decide
from pipeline.data.sample import Sample
from pipeline.data.tables import read_header
from pipeline.errors import DataError

_PIXEL = re.compile(r"(pixel|px|p|x|feature|f)?[._\- ]?\d+|\d+x\d+", re.IGNORECASE)
_MIN_PIXELS = 64


def is_pixel_table(path: Path) -> bool:
    """Whether the CSV's header has at least 64 columns named like pixels."""
    return len(_pixel_names(read_header(path))) >= _MIN_PIXELS


def find_pixel_tables(files: RawFiles, sample: Sample | None) -> list[str]:
    """Names of the CSVs with pixel columns; the sample's are classes, whatever they are called."""
    paths = {name: files.root / name for name in files.ending(".csv")}
    return [
        name
        for name, path in paths.items()
        if (sample is None or path != sample.path) and is_pixel_table(path)
    ]


def read_pixel_tables(
    files: RawFiles, tables: list[str], competition: Competition, sample: Sample | None
) -> tuple[RawPart, RawPart, Competition]:
    """Training and test images from the two tables of pixels.

    Raises:
        ConfigError: several files or columns could be meant.
        DataError: a value is no pixel, or the tables do not have the same pixels.
    """
    train_name = _table_of("train", tables, files, competition)
    test_name = _table_of("test", tables, files, competition)
    train_path, test_path = files.root / train_name, files.root / test_name
    header = read_header(train_path)
    pixels = _pixel_names(header)
    others = [name for name in header if name not in set(pixels)]
    id_column = named_column(competition, "id_column", others, train_path) or _usual_id_column(
        others, sample
    )
    group_column = named_column(competition, "group_column", others, train_path)
    candidates = [name for name in others if name not in {id_column, group_column}]
    target = label_column(competition, candidates, train_path, sample)
    train = _read(train_path, pixels, [target, id_column, group_column])
    part = RawPart(
        ids=[str(row) for row in range(len(train))]
        if id_column is None
        else list(train[id_column]),
        images=_images(train, pixels, train_path),
        labels=list(train[target]),
        groups=None if group_column is None else list(train[group_column]),
    )
    test_part = _read_test(test_path, pixels, competition, sample)
    data = replace(
        competition.data,
        train=train_name,
        test=test_name,
        id_column=id_column,
        label_column=target,
    )
    return part, test_part, replace(competition, data=data)


def _pixel_names(header: list[str]) -> list[str]:
    return [name for name in header if _PIXEL.fullmatch(name)]


def _table_of(split: Split, tables: list[str], files: RawFiles, competition: Competition) -> str:
    key = f"[data] {split}"
    named = competition.data.train if split == "train" else competition.data.test
    if named is not None:
        if not (files.root / named).is_file():
            raise to_decide(competition, key, f"{files.root / named} does not exist", tables)
        return named
    found = [name for name in tables if split_of(Path(name).stem) == split]
    if len(found) != 1:
        problem = f"{len(found)} of the pixel tables in {files.root} are called {split}"
        raise to_decide(competition, key, problem, found or tables)
    return found[0]


def _usual_id_column(columns: list[str], sample: Sample | None) -> str | None:
    """The one column called as the sample's ids, or id; None where the table has no ids."""
    usual = {"id", sample.id_column.lower()} if sample else {"id"}
    found = [name for name in columns if name.lower() in usual]
    return found[0] if len(found) == 1 else None


def _read_test(
    path: Path, pixels: list[str], competition: Competition, sample: Sample | None
) -> RawPart:
    header = read_header(path)
    missing = sorted(set(pixels) - set(header))
    if missing:
        raise DataError(
            f"{path} lacks {len(missing)} of the {len(pixels)} pixel columns of the training "
            f"table, first {missing[0]!r}; download it again"
        )
    others = [name for name in header if name not in set(pixels)]
    named = competition.data.id_column
    id_column = named if named in others else _usual_id_column(others, sample)
    rows = _read(path, pixels, [id_column])
    if id_column is None:
        ids = sample_ids_by_position(len(rows), path.name, competition, sample)
    else:
        ids = list(rows[id_column])
    return RawPart(ids, _images(rows, pixels, path))


def _read(path: Path, pixels: list[str], texts: list[str | None]) -> pd.DataFrame:
    """All rows: pixels as numbers, the columns of `texts` as text."""
    kept = [name for name in texts if name is not None]
    dtypes: dict[str, type[Any]] = {
        **dict.fromkeys(kept, object),
        **dict.fromkeys(pixels, np.float32),
    }
    try:
        rows = pd.read_csv(path, dtype=dtypes, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as err:  # also pandas' ParserError and UnicodeDecodeError
        raise _broken(path, err) from err
    if not isinstance(rows.index, pd.RangeIndex):
        # pandas takes the first column for an index when rows are longer than the header.
        raise _broken(path, "rows have more fields than the header")
    return rows


def _broken(path: Path, reason: object) -> DataError:
    return DataError(
        f"{path}: a pixel is no number, or a row is broken ({' '.join(str(reason).split())}); "
        "download it again"
    )


def _images(rows: pd.DataFrame, pixels: list[str], path: Path) -> PixelArray:
    return to_images(rows[pixels].to_numpy(dtype=np.float32), str(path))
