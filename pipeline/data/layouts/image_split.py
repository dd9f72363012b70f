"""Which image files are for training and which for the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.competition import Competition
from pipeline.data.ids import match_ids, short_ids
from pipeline.data.layouts.parts import RawPart
from pipeline.data.layouts.raw_files import RawFiles, Split, below, split_folder
from pipeline.data.questions import definition_path, to_decide
from pipeline.data.sample import Sample
from pipeline.errors import DataError


@dataclass(frozen=True, slots=True)
class ImageSplit:
    """Image files by what they are for. `train_folder` and `test_folder` are "." when shared."""

    root: Path
    train: list[str]
    test: list[str]
    train_folder: str
    test_folder: str
    unused: list[str]


def split_images(files: RawFiles, competition: Competition, sample: Sample | None) -> ImageSplit:
    """Split by the definition's folders, else by folders named train and test, else by the sample.

    Raises:
        ConfigError: several folders could be meant, or the named one has no images.
    """
    images = files.images
    test_folder = _folder(images, "test", competition)
    train_folder = _folder(images, "train", competition)
    if test_folder is None or test_folder == train_folder:
        shared = [name for name in images if below(test_folder or ".", name)]
        if test_folder is None and train_folder is not None:
            # A training image of the same name is no substitute for a missing test image.
            shared = [name for name in shared if not below(train_folder, name)]
        test = _named_by_sample(shared, sample)
    else:
        test = [name for name in images if below(test_folder, name)]
    rest = sorted(set(images) - set(test))
    train = [name for name in rest if below(train_folder or ".", name)]
    is_chosen = competition.data.train is not None
    return ImageSplit(
        root=files.root,
        train=train,
        test=test,
        train_folder=train_folder or ".",
        test_folder=test_folder or ".",
        unused=[] if is_chosen else sorted(set(rest) - set(train)),
    )


def read_test_part(split: ImageSplit, competition: Competition, sample: Sample | None) -> RawPart:
    """The test images under the sample's ids and in its order, or under their file names.

    Raises:
        DataError: there are no test images, or ids and images do not pair off.
    """
    names = split.test
    if not names:
        raise DataError(
            f"{competition.slug} has no test images in {split.root}; download them, or set "
            f"`[data] test` in {definition_path(competition)} to their folder"
        )
    if sample is None:
        return RawPart(
            short_ids(relative_to(split.test_folder, names)), [split.root / name for name in names]
        )
    found = match_images(sample.ids, names, split.test_folder)
    missing = [name for name, position in zip(sample.ids, found, strict=True) if position is None]
    if missing:
        raise DataError(
            f"{sample.path.name}: {len(missing)} of {len(found)} ids have no test image in "
            f"{split.root / split.test_folder}, first {missing[0]!r}; download the images again"
        )
    positions = [position for position in found if position is not None]
    extra = sorted(set(range(len(names))) - set(positions))
    if extra:
        raise DataError(
            f"{len(extra)} test images have no row in {sample.path.name}, first "
            f"{names[extra[0]]!r}; remove them, or set `[data] test` in "
            f"{definition_path(competition)} to the right folder"
        )
    return RawPart(sample.ids, [split.root / names[position] for position in positions])


def check_all_used(split: ImageSplit, competition: Competition) -> None:
    """Refuse to leave images out unless the definition says so.

    Raises:
        ConfigError: images lie outside the training and test folders.
    """
    if split.unused:
        problem = (
            f"{len(split.unused)} images lie outside {split.train_folder} and the test images, "
            f"first {split.unused[0]!r}"
        )
        candidates = [f'"{split.train_folder}" to leave them out', '"." to train on all']
        raise to_decide(competition, "[data] train", problem, candidates)


def match_images(ids: Sequence[str], names: Sequence[str], folder: str) -> list[int | None]:
    """Positions in `names` of the ids, which may be paths from the raw folder or from `folder`."""
    readings = [match_ids(ids, relative_to(folder, names))]
    if folder != "." and None in readings[0]:
        readings.append(match_ids(ids, names))
    return min(readings, key=lambda found: found.count(None))


def relative_to(folder: str, names: Sequence[str]) -> list[str]:
    """File names as seen from `folder`; "." is the raw folder itself."""
    prefix = "" if folder == "." else folder.rstrip("/") + "/"
    return [name.removeprefix(prefix) for name in names]


def _folder(images: Sequence[str], split: Split, competition: Competition) -> str | None:
    named = competition.data.train if split == "train" else competition.data.test
    key = f"[data] {split}"
    if named is not None:
        if not any(below(named, name) for name in images):
            raise to_decide(competition, key, f"there are no {split} images in {named!r}")
        return named
    found = {folder for said, folder in filter(None, map(split_folder, images)) if said == split}
    if len(found) > 1:
        raise to_decide(
            competition, key, f"several folders look like {split} images", sorted(found)
        )
    return found.pop() if found else None


def _named_by_sample(images: Sequence[str], sample: Sample | None) -> list[str]:
    if sample is None:
        return []
    found = match_ids(sample.ids, images)
    return [images[position] for position in sorted(p for p in found if p is not None)]
