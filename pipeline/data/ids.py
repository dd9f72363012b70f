"""Ids of images: text, with or without a folder and an extension."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2"),
)


def is_image_name(name: str) -> bool:
    """Whether the name ends like an image file."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def without_image_suffix(name: str) -> str:
    """`a/1.jpg` -> `a/1`; a dot that starts no image extension is part of the id."""
    return name[: name.rindex(".")] if is_image_name(name) else name


def match_ids(wanted: Sequence[str], available: Sequence[str]) -> list[int | None]:
    """For each wanted id the position of its counterpart in `available`, None where there is none.

    All ids are compared in one way: as they are, else by file name, else without extension, else
    by file name without extension; the first way that finds every id, or else most of them. A
    letter with a mark is the same as one character and as two, as macOS writes it in file names.
    """
    wanted, available = _composed(wanted), _composed(available)
    best: list[int | None] = [None] * len(wanted)
    for reading in _READINGS:
        found = _match(wanted, available, reading)
        if found.count(None) < best.count(None):
            best = found
        if None not in best:
            break
    return best


def short_ids(names: Sequence[str]) -> list[str]:
    """Ids made from the paths of image files: the bare stems where these are unique."""
    stems = [_stem(name) for name in names]
    if len(set(stems)) == len(stems):
        return stems
    paths = [without_image_suffix(name) for name in names]
    return paths if len(set(paths)) == len(paths) else list(names)


def first_repeated(ids: Sequence[str]) -> tuple[int, str | None]:
    """How many ids repeat an earlier one, and the first that does."""
    seen: set[str] = set()
    repeated = []
    for name in ids:
        if name in seen:
            repeated.append(name)
        seen.add(name)
    return len(repeated), repeated[0] if repeated else None


def _match(
    wanted: Sequence[str], available: Sequence[str], reading: Callable[[str], str]
) -> list[int | None]:
    positions: dict[str, int | None] = {}
    for position, name in enumerate(available):
        key = reading(name)
        positions[key] = None if key in positions else position
    found = [positions.get(reading(name)) for name in wanted]
    hits = [position for position in found if position is not None]
    # A reading under which two ids are one image tells nothing.
    return found if len(set(hits)) == len(hits) else [None] * len(wanted)


def _composed(names: Sequence[str]) -> list[str]:
    return [unicodedata.normalize("NFC", name) for name in names]


def _file_name(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _stem(name: str) -> str:
    return without_image_suffix(_file_name(name))


_READINGS: tuple[Callable[[str], str], ...] = (str, _file_name, without_image_suffix, _stem)
