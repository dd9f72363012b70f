"""The fold map that every run with the same FOLDS and FOLD_SEED shares."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import content_key, sha256_of, write_whole
from pipeline.competition import Competition
from pipeline.data.cache import Part
from pipeline.stages.console import say
from pipeline.stages.settings import Settings
from pipeline.training.folds import assign_folds, folds_csv, join_duplicates, read_folds


@dataclass(frozen=True, slots=True)
class FoldMap:
    """A fold map as it is saved, or would be."""

    path: Path
    content: bytes

    @property
    def sha256(self) -> str:
        """The hash of its bytes."""
        return hashlib.sha256(self.content).hexdigest()


def shared_fold_map(settings: Settings, competition: Competition, part: Part) -> Path:
    """The saved fold map of these images; every run with the same FOLDS and FOLD_SEED shares it.

    Raises:
        ConfigError: the images cannot be split into so many folds.
        DataError: the map, or the list of duplicates, is damaged.
    """
    copies = settings.workspace.duplicates(competition.slug)
    if copies.exists():
        say(
            "train", f"folds keep the copies listed in {copies} together; remove it for other folds"
        )
    found = planned_fold_map(settings, competition, part)
    if not found.path.exists():
        write_whole(found.path, found.content)
    return found.path


def planned_fold_map(settings: Settings, competition: Competition, part: Part) -> FoldMap:
    """As `shared_fold_map`, but nothing is written or said."""
    labels, groups = part.known_labels().numpy(), _groups(settings, competition, part)
    key = _images_key(part, groups)
    name = f"{settings.folds}-seed{settings.fold_seed}-{key}.csv"
    path = settings.workspace.folds(competition.slug) / name
    if path.exists():
        read_folds(path, part.ids)  # a damaged map is named here, before it decides anything
        return FoldMap(path, path.read_bytes())
    fold = assign_folds(labels, groups, settings.folds, settings.fold_seed, competition.classes)
    return FoldMap(path, folds_csv(part.ids, fold))


def current_fold_maps(settings: Settings, competition: Competition, part: Part) -> dict[str, str]:
    """The SHA-256 of every saved map of these images and groups, by name."""
    key = _images_key(part, _groups(settings, competition, part))
    folder = settings.workspace.folds(competition.slug)
    return {path.name: sha256_of(path) for path in sorted(folder.glob(f"*-{key}.csv"))}


def _images_key(part: Part, groups: list[str] | None) -> str:
    """What decides a map, apart from the number of folds and the seed."""
    return content_key([part.ids, part.known_labels().tolist(), groups], 8)


def _groups(settings: Settings, competition: Competition, part: Part) -> list[str] | None:
    """What must not span two folds: the competition's groups, and copies that an audit found."""
    path = settings.workspace.duplicates(competition.slug)
    return join_duplicates(path, part.ids, part.groups) if path.exists() else part.groups
