"""The checks that hold for every layout."""

from __future__ import annotations

from dataclasses import replace

from pipeline.competition import Competition
from pipeline.data.ids import first_repeated
from pipeline.data.layouts.labels import checked_labels
from pipeline.data.layouts.mirroring import may_mirror
from pipeline.data.layouts.parts import RawDataset, RawPart
from pipeline.data.questions import definition_path
from pipeline.errors import DataError


def checked_dataset(
    train: RawPart, test: RawPart, layout: str, competition: Competition
) -> RawDataset:
    """The two parts as one data set, once nothing in them contradicts the rest.

    Raises:
        DataError: a part is empty, an id repeats, a group is empty, or the labels are no labels
            (`checked_labels`).
    """
    for name, part in (("training", train), ("test", test)):
        _check_ids(name, part, competition)
    _check_groups(train, competition)
    train, competition = checked_labels(train, competition)
    data = replace(competition.data, mirror=may_mirror(competition, competition.classes))
    competition = replace(competition, data=data)
    return RawDataset(train, test, competition.classes, layout, competition)


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


def _check_groups(train: RawPart, competition: Competition) -> None:
    """All images with an empty one would be one group, and lie in one fold."""
    groups = train.groups or []
    empty = [name for name, group in zip(train.ids, groups, strict=False) if not group.strip()]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(groups)} training images have no group, first id {empty[0]!r}; "
            "fill it in, with a name of its own for an image that belongs to none, or change "
            f"`[data] group_column` in {definition_path(competition)}"
        )
