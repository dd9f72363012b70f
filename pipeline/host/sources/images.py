"""Labelled images as arrays, and the hashes that prove they are the published ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import DataError

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images and their labels, row by row.

    Attributes:
        images: uint8 [N,H,W] or [N,H,W,3] or, of several sizes, whole JPEG files, bytes [N].
        labels: class numbers uint8 [N] or, where an image has several, bool [N, classes].
        groups: a number for images that belong together [N]; None: each stands for itself.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    groups: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: npt.NDArray[np.intp]) -> Labelled:
        """The images and labels at `rows`, in that order."""
        groups = None if self.groups is None else self.groups[rows]
        return Labelled(self.images[rows], self.labels[rows], groups)


@dataclass(frozen=True, slots=True)
class Collection:
    """A data set as published: one part to learn from, one to be tested on."""

    train: Labelled
    test: Labelled


def first_of_each(part: Labelled, classes: Sequence[int], counts: int | Sequence[int]) -> Labelled:
    """The first images of each class, as many as `counts` says, in their order.

    Args:
        part: images with one label each.
        classes: the wanted class numbers; they become 0, 1, ... in this order.
        counts: how many of each; one number holds for all.
    """
    wanted = np.broadcast_to(counts, len(classes))
    rows = [
        np.flatnonzero(part.labels == label)[:count]
        for label, count in zip(classes, wanted, strict=True)
    ]
    chosen = part.take(np.sort(np.concatenate(rows)))
    new_number = np.zeros(256, np.uint8)
    new_number[list(classes)] = np.arange(len(classes))
    return Labelled(chosen.images, new_number[chosen.labels])


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """SHA-256 of a part's images and labels as C-ordered uint8."""

    images: str
    labels: str

    def check(self, part: Labelled, name: str) -> None:
        """Compare a part with the published one.

        Raises:
            DataError: pixels or labels differ.
        """
        for kind, array, expected in (
            ("images", part.images, self.images),
            ("labels", part.labels, self.labels),
        ):
            found = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
            if found != expected:
                raise DataError(
                    f"{name}: the {kind} differ from the published ones "
                    f"(SHA-256 {found[:12]}, expected {expected[:12]})"
                )
