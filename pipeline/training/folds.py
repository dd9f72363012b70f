"""Fold maps: which images validate which fold. Made once, saved, shared by every run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.artifacts import write_whole
from pipeline.errors import ConfigError, DataError
from pipeline.training.stratify import multi_label_folds


def assign_folds(
    labels: np.ndarray,
    groups: Sequence[str] | None,
    folds: int,
    seed: int,
    classes: Sequence[str] = (),
) -> np.ndarray:
    """Fold number int64 [N] per image: stratified by label; a group never spans two folds.

    `labels` are class numbers int64 [N] or, where an image may have several, bool [N, classes];
    `classes` are their names, for messages.

    Raises:
        ConfigError: fewer than two folds, or a class or the groups are too few for so many.
    """
    if folds < 2:
        raise ConfigError(f"FOLDS={folds}: out-of-fold scores need at least 2")
    members = labels if labels.ndim == 2 else labels[:, None] == np.arange(labels.max() + 1)
    counts = members.sum(axis=0)
    rarest = int(np.where(counts > 0, counts, counts.max()).argmin())
    if counts[rarest] < folds:
        few = int(((counts > 0) & (counts < folds)).sum())
        raise ConfigError(
            f"FOLDS={folds}: {few} of {len(counts)} classes have fewer images, least class "
            f"{_called(rarest, classes)} with {counts[rarest]}; choose fewer folds, add images, or "
            "leave that class out"
        )
    if groups is not None and len(set(groups)) < folds:
        raise ConfigError(
            f"FOLDS={folds}: there are only {len(set(groups))} groups; choose fewer folds, or "
            "another `[data] group_column`"
        )
    if labels.ndim == 2:
        fold = multi_label_folds(labels, groups, folds, seed)
    else:
        fold = _single_label_folds(labels, groups, folds, seed)
    _check_every_class_is_trained_on(members, fold, folds, classes)
    return fold


def _called(number: int, classes: Sequence[str]) -> str:
    return repr(classes[number]) if classes else f"number {number}"


def _single_label_folds(
    labels: np.ndarray, groups: Sequence[str] | None, folds: int, seed: int
) -> np.ndarray:
    # Slow to import, and folds are made once.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_splits=folds, shuffle=True, random_state=seed)
    fold = np.empty(len(labels), dtype=np.int64)
    for number, (_, valid) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
        fold[valid] = number
    return fold


def _check_every_class_is_trained_on(
    members: np.ndarray, fold: np.ndarray, folds: int, classes: Sequence[str]
) -> None:
    """Groups can put a whole class into one fold."""
    present = members.any(axis=0)
    for number in range(folds):
        absent = np.flatnonzero(present & ~members[fold != number].any(axis=0))
        if len(absent):
            raise ConfigError(
                f"FOLDS={folds}: without fold {number} no image of class "
                f"{_called(absent[0], classes)} is left to train on; choose another FOLDS, "
                "FOLD_SEED or group_column"
            )


def join_duplicates(path: Path, ids: Sequence[str], groups: Sequence[str] | None) -> list[str]:
    """The group of each of `ids`: copies listed in `path` (columns id, group) share one.

    Where the images have groups already, those that copies link become one. A group is named by
    its first image, so an image without a copy is its own.

    Raises:
        DataError: the file is damaged, or lists other images.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        copies = table.set_index("id")["group"]
        by_copy = copies.reindex(list(ids)).tolist()
    except (ValueError, KeyError) as err:
        reason = " ".join(str(err).split())
        raise DataError(f"{path} is damaged ({reason}); delete it, or make audit GROUP=1") from err
    unknown = copies.index.difference(pd.Index(list(ids)))
    if len(unknown):
        raise DataError(
            f"{path}: {len(unknown)} of {len(copies)} images are no training images, first "
            f"{unknown[0]!r}; delete it, or make audit GROUP=1"
        )
    linked = [by_copy] if groups is None else [by_copy, list(groups)]
    return [ids[first] for first in _first_linked(linked, len(ids))]


def _first_linked(namings: Sequence[Sequence[object]], count: int) -> list[int]:
    """The first of all rows that each row is linked to, by sharing a name in any of `namings`.

    A name is text; a row without one is linked to none.
    """
    first = list(range(count))

    def root(row: int) -> int:
        while first[row] != row:
            first[row] = first[first[row]]
            row = first[row]
        return row

    for names in namings:
        seen: dict[str, int] = {}
        for row, name in enumerate(names):
            if isinstance(name, str):
                one, other = root(seen.setdefault(name, row)), root(row)
                first[max(one, other)] = min(one, other)
    return [root(row) for row in range(count)]


def write_folds(path: Path, ids: Sequence[str], fold: np.ndarray) -> None:
    """Save a fold map as CSV with the columns id and fold."""
    write_whole(path, folds_csv(ids, fold))


def folds_csv(ids: Sequence[str], fold: np.ndarray) -> bytes:
    """What `write_folds` writes."""
    return pd.DataFrame({"id": list(ids), "fold": fold}).to_csv(index=False).encode()


def read_folds(path: Path, ids: Sequence[str]) -> np.ndarray:
    """The fold number int64 [N] of each of `ids`, joined by id.

    Raises:
        DataError: the map is damaged, or its ids are not exactly `ids`.
    """
    try:
        table = pd.read_csv(path, dtype={"id": str, "fold": np.int64}, keep_default_na=False)
        fold = table.set_index("id")["fold"].reindex(list(ids))
    except (ValueError, KeyError) as err:
        reason = " ".join(str(err).split())
        raise DataError(f"{path} is damaged ({reason}); delete it and rerun") from err
    missing = fold.isna()
    if missing.any() or len(table) != len(ids):
        first = fold.index[missing][0] if missing.any() else "none"
        raise DataError(
            f"{path}: {int(missing.sum())} of {len(ids)} images are in no fold, first {first!r}; "
            "delete the file and rerun"
        )
    return fold.to_numpy(dtype=np.int64)
