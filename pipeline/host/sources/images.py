"""Labelled images as arrays, and the hashes that prove they are the published ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import DataError

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images uint8 [N,H,W] or [N,H,W,3] and their class numbers uint8 [N]."""

    images: Pixels
    labels: Pixels

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: npt.NDArray[np.intp]) -> Labelled:
        """The images and labels at `rows`, in that order."""
        return Labelled(self.images[rows], self.labels[rows])


@dataclass(frozen=True, slots=True)
class Collection:
    """A data set as published: one part to learn from, one to be tested on."""

    train: Labelled
    test: Labelled


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
