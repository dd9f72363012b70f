"""The training images' labels, one or several each, and the classes that they name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from pipeline.competition import Competition
from pipeline.data.layouts.parts import RawPart
from pipeline.data.questions import definition_path
from pipeline.errors import DataError

_NUMBER = re.compile(r"\d+")


def checked_labels(train: RawPart, competition: Competition) -> tuple[RawPart, Competition]:
    """The training images with their labels by class name, and the competition with its classes.

    Cells are split where the definition names a separator. Columns of 0 and 1 with a single 1 in
    every row are one label each, unless the definition says `multi_label`.

    Raises:
        DataError: a label is missing, unknown or one of several where there may be one only; there
            are fewer than two classes, or a class has no image.
    """
    sets = _label_sets(train, competition)
    multi_label = competition.multi_label
    if multi_label is None:
        separated = competition.data.label_separator is not None
        multi_label = separated or any(len(labels) != 1 for labels in sets)
    if not multi_label:
        _check_one_each(sets, train.ids)
    found = {name for labels in sets for name in labels}
    columns = competition.data.label_columns
    classes = competition.classes or columns or tuple(sorted(sorted(found), key=_natural))
    names = _class_names([name for labels in sets for name in labels], classes)
    sets = _regrouped(names, sets)
    _check_classes(sets, train.ids, classes, competition)
    competition = replace(competition, classes=classes, multi_label=multi_label)
    if multi_label:
        return replace(train, labels=None, label_sets=sets), competition
    return replace(train, labels=[labels[0] for labels in sets], label_sets=None), competition


def _label_sets(train: RawPart, competition: Competition) -> list[tuple[str, ...]]:
    if train.label_sets is not None:
        return train.label_sets
    labels = train.labels or []
    separator = competition.data.label_separator
    if separator is None:
        _check_no_empty_label(labels, train.ids)
        return [(label,) for label in labels]
    parts = [[name.strip() for name in label.split(separator)] for label in labels]
    return [tuple(dict.fromkeys(filter(None, names))) for names in parts]


def _regrouped(names: list[str], sets: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The names, one after the other, in tuples as long as those of `sets`."""
    rest = iter(names)
    return [tuple(next(rest) for _ in labels) for labels in sets]


def _check_no_empty_label(labels: Sequence[str], ids: Sequence[str]) -> None:
    empty = [name for name, label in zip(ids, labels, strict=True) if not label.strip()]
    if empty:
        raise DataError(
            f"{len(empty)} training images have an empty label, first id {empty[0]!r}; "
            "fill it in, remove the row, or set `[data] label_separator` where images may have "
            "several labels or none"
        )


def _check_one_each(sets: Sequence[tuple[str, ...]], ids: Sequence[str]) -> None:
    other = [name for name, labels in zip(ids, sets, strict=True) if len(labels) != 1]
    if other:
        raise DataError(
            f"{len(other)} training images have none or several labels, first id {other[0]!r}; "
            "correct them, or set `multi_label = true`"
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
    sets: Sequence[tuple[str, ...]],
    ids: Sequence[str],
    classes: tuple[str, ...],
    competition: Competition,
) -> None:
    _check_spaces(classes)
    known = set(classes)
    pairs = [(name, label) for name, labels in zip(ids, sets, strict=True) for label in labels]
    unknown = [(name, label) for name, label in pairs if label not in known]
    where = f"`classes` in {definition_path(competition)}"
    if unknown:
        name, label = unknown[0]
        raise DataError(
            f"{len(unknown)} training labels are none of the {len(classes)} classes "
            f"({', '.join(classes[:10])}), first {label!r} of id {name!r}; correct them or {where}"
        )
    if len(classes) < 2:
        raise DataError(
            f"{competition.slug} has one class, {classes[0]!r}, in {len(pairs)} training images; "
            "at least two are needed to train: check the labels"
        )
    unseen = [name for name in classes if name not in {label for _, label in pairs}]
    if unseen:
        raise DataError(
            f"{len(unseen)} of {len(classes)} classes have no training image, first "
            f"{unseen[0]!r}; download the images again or correct {where}"
        )


def _check_spaces(classes: tuple[str, ...]) -> None:
    first_called: dict[str, str] = {}
    twins = [
        (first, name)
        for name in classes
        if (first := first_called.setdefault(name.strip(), name)) != name
    ]
    if twins:
        raise DataError(
            f"{len(twins)} of {len(classes)} classes differ from another in spaces alone, first "
            f"{twins[0][1]!r} from {twins[0][0]!r}; write each label in one way"
        )


def _natural(label: str) -> list[tuple[int, int, str]]:
    """Sort key by which "2" comes before "10"."""
    return [
        (0, int(text), "") if text.isdecimal() else (1, 0, text)
        for text in re.split(r"(\d+)", label)
        if text
    ]
