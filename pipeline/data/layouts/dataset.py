"""What every layout yields, and the checks that hold for all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.competition import Competition
from pipeline.data.ids import first_repeated
from pipeline.data.images import PixelArray
from pipeline.data.layouts.mirroring import may_mirror
from pipeline.data.questions import definition_path
from pipeline.errors import DataError

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class RawPart:
    """Training or test images with their ids, row by row.

    `images` are paths of image files, or one array [N, H, W] or [N, H, W, C].
    """

    ids: list[str]
    images: list[Path] | PixelArray
    labels: list[str] | None = None
    groups: list[str] | None = None


@dataclass(frozen=True, slots=True)
class RawDataset:
    """A competition's data before decoding; `competition` has what was inferred filled in."""

    train: RawPart
    test: RawPart
    classes: tuple[str, ...]
    layout: str
    competition: Competition


def checked_dataset(
    train: RawPart, test: RawPart, layout: str, competition: Competition
) -> RawDataset:
    """The two parts as one data set, once nothing in them contradicts the rest.

    Raises:
        DataError: a part is empty, an id repeats, a label is missing or unknown, there are fewer
            than two classes, or a class has no image.
    """
    for name, part in (("training", train), ("test", test)):
        _check_ids(name, part, competition)
    labels = train.labels or []
    _check_no_empty_label(labels, train.ids)
    classes = competition.classes or tuple(sorted(set(labels), key=_natural))
    labels = _class_names(labels, classes)
    _check_classes(labels, train.ids, classes, competition)
    data = replace(competition.data, mirror=may_mirror(competition, classes))
    return RawDataset(
        replace(train, labels=labels),
        test,
        classes,
        layout,
        replace(competition, classes=classes, data=data),
    )


def _check_ids(name: str, part: RawPart, competition: Competition) -> None:
    if not part.ids:
        raise DataError(
            f"{competition.slug} has no {name} images; download it again, or set "
            f"`[data] {'train' if name == 'training' else 'test'}` in "
            f"{definition_path(competition)}"
        )
    count, first = first_repeated(part.ids)
    if first is not None:
        raise DataError(
            f"{count} {name} ids repeat an earlier one, first {first!r}; keep one row of each id"
        )


def _check_no_empty_label(labels: Sequence[str], ids: Sequence[str]) -> None:
    empty = [name for name, label in zip(ids, labels, strict=True) if not label.strip()]
    if empty:
        raise DataError(
            f"{len(empty)} training images have an empty label, first id {empty[0]!r}; "
            "fill it in or remove the row"
        )


def _class_names(labels: list[str], classes: tuple[str, ...]) -> list[str]:
    """Labels that are numbers while the classes are names count the classes in their order."""
    if any(_NUMBER.fullmatch(name) for name in classes):
        return labels
    numbers = [str(position) for position in range(len(classes))]
    if not set(labels) <= set(numbers):
        return labels
    return [classes[int(label)] for label in labels]


def _check_classes(
    labels: Sequence[str], ids: Sequence[str], classes: tuple[str, ...], competition: Competition
) -> None:
    known = set(classes)
    unknown = [(name, label) for name, label in zip(ids, labels, strict=True) if label not in known]
    where = f"`classes` in {definition_path(competition)}"
    if unknown:
        name, label = unknown[0]
        raise DataError(
            f"{len(unknown)} training labels are none of the {len(classes)} classes "
            f"({', '.join(classes[:10])}), first {label!r} of id {name!r}; correct them or {where}"
        )
    if len(classes) < 2:
        raise DataError(
            f"{competition.slug} has one class, {classes[0]!r}, in {len(labels)} training images; "
            "at least two are needed to train: check the labels"
        )
    unseen = [name for name in classes if name not in set(labels)]
    if unseen:
        raise DataError(
            f"{len(unseen)} of {len(classes)} classes have no training image, first "
            f"{unseen[0]!r}; download the images again or correct {where}"
        )


def _natural(label: str) -> list[tuple[int, int, str]]:
    """Sort key by which "2" comes before "10"."""
    return [
        (0, int(text), "") if text.isdecimal() else (1, 0, text)
        for text in re.split(r"(\d+)", label)
        if text
    ]
