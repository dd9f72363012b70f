"""Which layout a competition's raw files have; the definition's `[data] layout` decides if set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pipeline.competition import LAYOUTS, Competition
from pipeline.data.archive_members import is_archive
from pipeline.data.layouts.dataset import checked_dataset
from pipeline.data.layouts.image_split import ImageSplit, read_test_part, split_images
from pipeline.data.layouts.label_table import LabelTable, find_label_tables, read_label_table
from pipeline.data.layouts.named_arrays import (
    NamedArrays,
    find_arrays,
    find_idx,
    has_training_images,
    read_named_arrays,
)
from pipeline.data.layouts.named_labels import (
    has_class_folders,
    has_labels_in_names,
    only_label,
    read_class_folders,
    read_labels_in_names,
)
from pipeline.data.layouts.parts import RawDataset, RawPart
from pipeline.data.layouts.pixel_columns import find_pixel_tables, read_pixel_tables
from pipeline.data.layouts.raw_files import RawFiles, list_files
from pipeline.data.questions import to_decide
from pipeline.data.sample import Sample, find_sample
from pipeline.data.tables import has_another_separator, read_header
from pipeline.errors import DataError
from pipeline.reading import read_errors

_UNPACKED_BY_HAND = (".7z", ".rar")
Parts = tuple[RawPart, RawPart, Competition]


def read_layout(raw: Path, competition: Competition) -> RawDataset:
    """Read a competition's raw folder: ids, labels and where the images are, checked.

    Raises:
        ConfigError: something is undecided; names the key, the file and the candidates.
        DataError: the files are missing, damaged or contradict each other.
        StorageError: a file or a folder may not be read.
    """
    with read_errors(raw):
        return _read_layout(raw, competition)


def _read_layout(raw: Path, competition: Competition) -> RawDataset:
    files = list_files(raw) if raw.is_dir() else RawFiles(raw, ())
    if not files.names:
        raise DataError(f"{raw} is empty; download {competition.slug} or put its files there")
    _check_unpacked(files)
    source = _Source(files, competition, find_sample(raw, competition))
    layout = competition.data.layout or _detect(source)
    train, test, resolved = _READERS[layout](source)
    submission = resolved.submission
    if source.sample is not None:
        submission = replace(
            submission,
            sample=source.sample.path.relative_to(raw).as_posix(),
            id=source.sample.id_column,
        )
    data = replace(resolved.data, layout=layout)
    return checked_dataset(train, test, layout, replace(resolved, data=data, submission=submission))


@dataclass(frozen=True)
class _Source:
    """The raw files, and what the layouts look for in them, each looked for once."""

    files: RawFiles
    competition: Competition
    sample: Sample | None

    @cached_property
    def split(self) -> ImageSplit:
        return split_images(self.files, self.competition, self.sample)

    @cached_property
    def label_tables(self) -> list[LabelTable]:
        return find_label_tables(self.files, self.split, self.competition, self.sample)

    @cached_property
    def pixel_tables(self) -> list[str]:
        return find_pixel_tables(self.files, self.sample)

    @cached_property
    def arrays(self) -> NamedArrays:
        return find_arrays(self.files)

    @cached_property
    def idx(self) -> NamedArrays:
        return find_idx(self.files)


def _detect(source: _Source) -> str:
    """The one layout that the files show.

    File names carry labels only where neither folders nor a table do: many files are called
    after a patient or a day and a number.
    """
    found = []
    if source.files.images:
        if has_class_folders(source.split):
            found.append("folders")
        if source.label_tables:
            found.append("table")
        if not found and has_labels_in_names(source.split):
            found.append("filenames")
    if source.pixel_tables:
        found.append("pixels")
    if has_training_images(source.arrays):
        found.append("arrays")
    if has_training_images(source.idx):
        found.append("idx")
    if len(found) == 1:
        return found[0]
    label = None if found else only_label(source.split)
    if label is not None:
        raise DataError(
            f"{source.competition.slug} has one class: all {len(source.split.train)} training "
            f"images are {label!r} and no table tells them apart; at least two classes are needed"
        )
    if not found:
        _check_separators(source.files)
    raw = source.files.root
    problem = (
        f"{raw} can be read as {' and as '.join(found)}"
        if found
        else f"no known layout in {raw} ({len(source.files.names)} files, "
        f"first {source.files.names[0]!r})"
    )
    raise to_decide(source.competition, "[data] layout", problem, found or list(LAYOUTS))


def _check_unpacked(files: RawFiles) -> None:
    packed = [
        name
        for name in files.names
        if name.lower().endswith(_UNPACKED_BY_HAND)
        or (is_archive(files.root / name) and not name.lower().endswith("ubyte.gz"))
    ]
    if packed:
        raise DataError(
            f"{files.root} holds {len(packed)} archives that are not unpacked, first "
            f"{packed[0]!r}; unpack them there and remove them"
        )


def _check_separators(files: RawFiles) -> None:
    """A table that could not be told apart may be one whose columns were not."""
    tables = files.ending(".csv")
    other = [name for name in tables if has_another_separator(read_header(files.root / name))]
    if other:
        raise DataError(
            f"{files.root}: {len(other)} of {len(tables)} tables have no commas between their "
            f"columns, first {other[0]!r}; save them with commas"
        )


def _read_folders(source: _Source) -> Parts:
    train, resolved = read_class_folders(source.split, source.competition)
    return train, _test_images(source), resolved


def _read_table(source: _Source) -> Parts:
    train, resolved = read_label_table(
        source.label_tables, source.split, source.competition, source.sample
    )
    return train, _test_images(source), resolved


def _read_filenames(source: _Source) -> Parts:
    train, resolved = read_labels_in_names(source.split, source.competition)
    return train, _test_images(source), resolved


def _test_images(source: _Source) -> RawPart:
    return read_test_part(source.split, source.competition, source.sample)


def _read_pixels(source: _Source) -> Parts:
    return read_pixel_tables(source.files, source.pixel_tables, source.competition, source.sample)


def _read_arrays(source: _Source) -> Parts:
    return read_named_arrays(source.arrays, source.competition, source.sample)


def _read_idx(source: _Source) -> Parts:
    return read_named_arrays(source.idx, source.competition, source.sample)


_READERS: dict[str, Callable[[_Source], Parts]] = {
    "folders": _read_folders,
    "table": _read_table,
    "filenames": _read_filenames,
    "pixels": _read_pixels,
    "arrays": _read_arrays,
    "idx": _read_idx,
}
