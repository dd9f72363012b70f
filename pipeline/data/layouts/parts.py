"""What every layout yields: images with their ids, labels and groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.competition import Competition
from pipeline.data.images import PixelArray


@dataclass(frozen=True, slots=True)
class RawPart:
    """Training or test images with their ids, row by row.

    `images` are paths of image files, or one array [N, H, W] or [N, H, W, C]. `labels` are the
    texts that the files hold; `label_sets` the names of each image's labels, where they stand in
    columns of their own, or where an image may have several.
    """

    ids: list[str]
    images: list[Path] | PixelArray
    labels: list[str] | None = None
    groups: list[str] | None = None
    label_sets: list[tuple[str, ...]] | None = None


@dataclass(frozen=True, slots=True)
class RawDataset:
    """A competition's data before decoding; `competition` has what was inferred filled in."""

    train: RawPart
    test: RawPart
    classes: tuple[str, ...]
    layout: str
    competition: Competition
