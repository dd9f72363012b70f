"""Cats and dogs in bursts: every photo of CIFAR-10 is there up to four times, nearly the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.host.sources import cifar10
from pipeline.host.sources.images import Collection, Labelled, Pixels, first_of_each

_SEED = 20260112
_CAT_AND_DOG = (3, 5)
_TRAIN_PHOTOS_PER_CLASS, _TEST_PHOTOS_PER_CLASS = 1_000, 300
_LONGEST_BURST = 4
_FARTHEST_SHIFT = 2  # pixels
_DARKEST, _BRIGHTEST = 0.85, 1.15
_NOISE = 4.0  # standard deviation, of 255


def load(cache: Path) -> Collection:
    """5,000 training images of 2,000 photos and 1,500 test images of 600, RGB [N,32,32,3].

    Raises:
        ConfigError: CIFAR10_ARCHIVE names a file that is not CIFAR-10.
        HostError: no source can be reached.
    """
    everything = cifar10.load(cache)
    rng = np.random.default_rng(_SEED)
    train = first_of_each(everything.train, _CAT_AND_DOG, _TRAIN_PHOTOS_PER_CLASS)
    test = first_of_each(everything.test, _CAT_AND_DOG, _TEST_PHOTOS_PER_CLASS)
    return Collection(in_bursts(train, rng), in_bursts(test, rng))


def in_bursts(photos: Labelled, rng: np.random.Generator) -> Labelled:
    """Each photo one to four times, as often each; the group is the photo's number.

    Every image is shifted by up to two pixels, a little darker or brighter, and noisy, so that
    none of a burst is the original.
    """
    lengths = rng.permutation(np.arange(len(photos)) % _LONGEST_BURST + 1)
    rows = np.repeat(np.arange(len(photos)), lengths)
    images = [_taken_again(photo, rng) for photo in photos.images[rows]]
    return Labelled(np.stack(images), photos.labels[rows], rows.astype(np.int64))


def _taken_again(photo: Pixels, rng: np.random.Generator) -> Pixels:
    edge = _FARTHEST_SHIFT
    wider = np.pad(photo, ((edge, edge), (edge, edge), (0, 0))[: photo.ndim], mode="reflect")
    down, right = rng.integers(2 * edge + 1, size=2)
    height, width = photo.shape[:2]
    shifted = wider[down : down + height, right : right + width]
    noisy = shifted * rng.uniform(_DARKEST, _BRIGHTEST) + rng.normal(0, _NOISE, photo.shape)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)
