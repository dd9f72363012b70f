"""The layout of a CSV of ids and labels beside a folder of images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from pipeline.competition import Competition
from pipeline.data.columns import label_column, label_columns, named_column
from pipeline.data.ids import first_repeated
from pipeline.data.layouts.image_split import ImageSplit, check_all_used, match_images
from pipeline.data.layouts.parts import RawPart
from pipeline.data.layouts.pixel_columns import is_pixel_table
from pipeline.data.layouts.raw_files import RawFiles, split_of
from pipeline.data.questions import to_decide
from pipeline.data.sample import Sample
from pipeline.data.tables import read_table
from pipeline.errors import DataError

# A table is about the images when most of its first ids name one.
_PROBED_ROWS = 200
_ONE, _ZERO = ("1", "1.0"), ("0", "0.0")


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A CSV, by its name in the raw folder, with the columns that could hold the image ids."""

    name: str
    id_columns: list[str]


def find_label_tables(
    files: RawFiles, split: ImageSplit, competition: Competition, sample: Sample | None
) -> list[LabelTable]:
    """The CSVs that list training images with something else, the definition's own alone if set.

    Raises:
        ConfigError: the definition names a table that is not there.
    """
    named = competition.data.train_labels
    if named is not None and not (files.root / named).is_file():
        raise to_decide(competition, "[data] train_labels", f"{files.root / named} does not exist")
    names = files.ending(".csv") if named is None else [named]
    found = []
    for name in names:
        path = files.root / name
        if named is None and (_is_of_the_test(path, sample) or is_pixel_table(path)):
            continue
        columns = _id_columns(path, split, competition)
        if columns or named is not None:
            found.append(LabelTable(name, columns))
    return found


def read_label_table(
    tables: list[LabelTable], split: ImageSplit, competition: Competition, sample: Sample | None
) -> tuple[RawPart, Competition]:
    """Training images with the labels of the one table there is.

    Raises:
        ConfigError: several tables or columns could be meant.
        DataError: rows and images do not pair off, or an id repeats.
    """
    if len(tables) != 1:
        candidates = [table.name for table in tables]
        problem = f"{split.root} has {len(tables)} tables that could hold the labels"
        raise to_decide(competition, "[data] train_labels", problem, candidates)
    path = split.root / tables[0].name
    if len(tables[0].id_columns) != 1:
        candidates = tables[0].id_columns or list(read_table(path, limit=0).columns)
        problem = f"{path}: cannot tell which column names the images"
        raise to_decide(competition, "[data] id_column", problem, candidates)
    (id_column,) = tables[0].id_columns
    rows = read_table(path)
    named_column(competition, "id_column", list(rows.columns), path)  # a misspelt one is told
    group_column = named_column(competition, "group_column", list(rows.columns), path)
    others = [name for name in rows.columns if name not in {id_column, group_column}]
    columns = label_columns(competition, others, path, sample)
    target = None if columns else label_column(competition, others, path, sample)
    ids = list(rows[id_column])
    part = RawPart(
        ids=ids,
        images=_images_of(ids, path, split, competition),
        labels=None if target is None else list(rows[target]),
        groups=None if group_column is None else list(rows[group_column]),
        label_sets=_marked(rows[columns], ids, path) if columns else None,
    )
    data = replace(
        competition.data,
        train=split.train_folder,
        test=split.test_folder,
        train_labels=tables[0].name,
        id_column=id_column,
        label_column=target,
        label_columns=tuple(columns),
    )
    return part, replace(competition, data=data)


def _marked(columns: pd.DataFrame, ids: list[str], path: Path) -> list[tuple[str, ...]]:
    """The names of the columns in which each row has a 1."""
    is_one = columns.isin(_ONE)
    other = ~(is_one | columns.isin(_ZERO))
    if other.to_numpy().any():
        row, column = (int(place[0]) for place in other.to_numpy().nonzero())
        raise DataError(
            f"{path}: {int(other.to_numpy().sum())} values in the columns of labels are neither 0 "
            f"nor 1, first {columns.iat[row, column]!r} of id {ids[row]!r} in "
            f"{columns.columns[column]!r}; correct them, or set `[data] label_column`"
        )
    names = [str(name) for name in columns.columns]
    return [
        tuple(name for name, marked in zip(names, row, strict=True) if marked)
        for row in is_one.to_numpy()
    ]


def _is_of_the_test(path: Path, sample: Sample | None) -> bool:
    return split_of(path.stem) == "test" or (sample is not None and path == sample.path)


def _id_columns(path: Path, split: ImageSplit, competition: Competition) -> list[str]:
    rows = read_table(path, limit=_PROBED_ROWS)
    named = competition.data.id_column
    if named is not None and named in rows.columns:
        return [named]
    if len(rows.columns) < 2 or rows.empty:
        return []
    candidates = [str(name) for name in rows.columns if name != competition.data.group_column]
    return [name for name in candidates if _share_of_images(list(rows[name]), split) > 0.5]


def _share_of_images(values: list[str], split: ImageSplit) -> float:
    distinct = list(dict.fromkeys(values))
    found = match_images(distinct, split.train, split.train_folder)
    return sum(position is not None for position in found) / len(values)


def _images_of(
    ids: list[str], path: Path, split: ImageSplit, competition: Competition
) -> list[Path]:
    """The image of each id; every training image must have one id and the reverse."""
    count, first = first_repeated(ids)
    if first is not None:
        raise DataError(
            f"{path}: {count} ids repeat an earlier one, first {first!r}; keep one row of each id"
        )
    found = match_images(ids, split.train, split.train_folder)
    missing = [name for name, position in zip(ids, found, strict=True) if position is None]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(ids)} labels name a missing image, first "
            f"{missing[0]!r}; download the images again or remove these rows"
        )
    positions = [position for position in found if position is not None]
    unlabelled = sorted(set(range(len(split.train))) - set(positions))
    if unlabelled:
        raise DataError(
            f"{len(unlabelled)} images have no label in {path}, first "
            f"{split.train[unlabelled[0]]!r}; add the rows, remove the images, or name the folder "
            "of the training images with `[data] train`"
        )
    check_all_used(split, competition)
    return [split.root / split.train[position] for position in positions]
