"""Photographs in five grades of compression: an ordinal task, made from CIFAR-10.

They are compressed as WebP, which blurs them: JPEG's blocks would tell the grade at once.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.host.sources import cifar10
from pipeline.host.sources.images import Collection, Labelled, Pixels

_SEED = 20260111
_TRAIN_IMAGES, _TEST_IMAGES = 5_000, 2_000
_SHARES = (0.45, 0.25, 0.15, 0.10, 0.05)
# WebP qualities from (including) and to (excluding); a photograph of grade 0 stays as it is.
_QUALITIES = ((0, 0), (80, 97), (60, 80), (35, 60), (5, 35))


def load(cache: Path) -> Collection:
    """5,000 training and 2,000 test photographs, RGB [N,32,32,3], as `graded` makes them.

    Raises:
        ConfigError: CIFAR10_ARCHIVE names a file that is not CIFAR-10.
        HostError: no source can be reached.
    """
    photos = cifar10.load(cache)
    rng = np.random.default_rng(_SEED)
    return Collection(
        graded(photos.train.images, _TRAIN_IMAGES, rng),
        graded(photos.test.images, _TEST_IMAGES, rng),
    )


def graded(photos: Pixels, count: int, rng: np.random.Generator) -> Labelled:
    """`count` of the photos, RGB, each compressed once: from grade 0, untouched, to 4.

    45, 25, 15, 10 and 5 % get these grades. Within a grade the quality differs from photo to photo,
    down to where the next grade begins.
    """
    chosen = photos[rng.permutation(len(photos))[:count]]
    ends = np.rint(np.cumsum(_SHARES) * count)
    grades = np.searchsorted(ends, np.arange(count), side="right").astype(np.uint8)
    images = [
        photo if grade == 0 else compressed(photo, int(rng.integers(*_QUALITIES[grade])))
        for photo, grade in zip(chosen, grades, strict=True)
    ]
    return Labelled(np.stack(images), grades)


def compressed(photo: Pixels, quality: int) -> Pixels:
    """The photo after a pass through WebP."""
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format="webp", quality=quality)
    return np.asarray(Image.open(buffer))
