"""Layouts whose labels are in paths: a folder per class, and `cat.0.jpg`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath

from pipeline.competition import Competition
from pipeline.data.ids import short_ids, without_image_suffix
from pipeline.data.layouts.image_split import ImageSplit, check_all_used, relative_to
from pipeline.data.layouts.parts import RawPart
from pipeline.data.questions import definition_path
from pipeline.errors import ConfigError, DataError

_NO_CLASSES = {"images", "masks", "labels", "annotations", "valid", "validation", "val"}
# A label, then a number set off by punctuation or by the change from letters to digits.
_NUMBERED = re.compile(r"(?P<label>.+?)(?:[\W_]+|(?<=[^\W\d_]))\d+\W?")


def has_class_folders(split: ImageSplit) -> bool:
    """Whether the training images lie in at least two folders side by side."""
    labels = set(_folder_labels(split).values())
    return len(labels) > 1 and "" not in labels and labels.isdisjoint(_NO_CLASSES)


def read_class_folders(split: ImageSplit, competition: Competition) -> tuple[RawPart, Competition]:
    """Training images labelled by the folder below the training folder.

    Raises:
        ConfigError: images lie outside the training and test folders.
        DataError: images lie beside the class folders.
    """
    labels = _folder_labels(split)
    loose = [name for name, label in labels.items() if not label]
    if loose:
        raise DataError(
            f"{len(loose)} training images lie in no class folder, first {loose[0]!r}; "
            f"move them into one, or set `[data] train` in {definition_path(competition)}"
        )
    return _labelled_by_name(split, labels, competition)


def has_labels_in_names(split: ImageSplit) -> bool:
    """Whether most training images are numbered within a few labels: `cat.0.jpg`, `dog_1.jpg`."""
    counts = Counter(_file_label(name) for name in split.train)
    unnumbered = counts.pop("", 0)
    numbered = counts.total()
    return len(counts) > 1 and numbered > unnumbered and 2 * len(counts) <= numbered


def only_label(split: ImageSplit) -> str | None:
    """The one label that all folders or else all file names give, None where they give more."""
    for labels in (set(_folder_labels(split).values()), set(map(_file_label, split.train))):
        if len(labels) == 1 and labels != {""}:
            return labels.pop()
    return None


def read_labels_in_names(
    split: ImageSplit, competition: Competition
) -> tuple[RawPart, Competition]:
    """Training images labelled by the start of their file name.

    Raises:
        ConfigError: images lie outside the training and test folders.
        DataError: file names do not have the form label, number.
    """
    labels = {name: _file_label(name) for name in split.train}
    nameless = [name for name, label in labels.items() if not label]
    if nameless:
        raise DataError(
            f"{len(nameless)} of {len(labels)} training images have no label in their name (as in "
            f"cat.0.jpg), first {nameless[0]!r}; rename or remove them"
        )
    return _labelled_by_name(split, labels, competition)


def _labelled_by_name(
    split: ImageSplit, labels: dict[str, str], competition: Competition
) -> tuple[RawPart, Competition]:
    if competition.data.group_column is not None:
        raise ConfigError(
            f"`[data] group_column` in {definition_path(competition)} needs a label table, "
            "and the labels of this competition are in the file names; remove the key"
        )
    check_all_used(split, competition)
    part = RawPart(
        ids=short_ids(relative_to(split.train_folder, split.train)),
        images=[split.root / name for name in split.train],
        labels=list(labels.values()),
    )
    data = replace(competition.data, train=split.train_folder, test=split.test_folder)
    return part, replace(competition, data=data)


def _folder_labels(split: ImageSplit) -> dict[str, str]:
    """The class folder of each training image, "" for an image that lies in none.

    A chain of single folders on top (train/images/cat/1.jpg) is skipped.
    """
    folders = [PurePosixPath(name).parts[:-1] for name in split.train]
    shared = 0 if split.train_folder == "." else len(PurePosixPath(split.train_folder).parts)
    while (
        min(map(len, folders), default=0) > shared + 1
        and len({parts[shared] for parts in folders}) == 1
    ):
        shared += 1
    return {
        name: parts[shared] if len(parts) > shared else ""
        for name, parts in zip(split.train, folders, strict=True)
    }


def _file_label(name: str) -> str:
    match = _NUMBERED.fullmatch(without_image_suffix(PurePosixPath(name).name))
    return match["label"] if match else ""
