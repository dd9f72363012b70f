"""Handwritten digits of 8x8 pixels, shipped with scikit-learn: no network needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.host.sources.images import Collection, Labelled

_TEST_IMAGES = 500
_BRIGHTEST = 16


def load(cache: Path) -> Collection:
    """1,297 training and 500 test images, grey [N,8,8], drawn by class; `cache` stays unused."""
    from sklearn.datasets import load_digits  # slow to import, and built only once
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / _BRIGHTEST)).astype(np.uint8)
    everything = Labelled(images, bunch.target.astype(np.uint8))
    train, test = train_test_split(
        np.arange(len(images)),
        test_size=_TEST_IMAGES,
        stratify=bunch.target,
        random_state=0,
    )
    return Collection(everything.take(train), everything.take(test))
