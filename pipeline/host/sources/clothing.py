"""Fashion-MNIST made harder: classes of very different frequency, and two images side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.host.sources.images import Collection, Labelled, Pixels, first_of_each
from pipeline.host.sources.mnist import load_fashion_mnist

# T-shirt, trouser, pullover, dress, coat, bag and shirt, from the most to the least frequent.
_SKEWED = (0, 1, 2, 3, 4, 8, 6)
_MOST_TRAIN_IMAGES, _MOST_TEST_IMAGES = 3_000, 1_000
_MOST_TO_LEAST = 20
_SEED = 20260113
_TRAIN_PAIRS, _TEST_PAIRS = 6_000, 2_000
_BLANK_SHARE = 0.225  # of all sides: 5 % of the pairs are blank on both


def load_skewed(cache: Path) -> Collection:
    """7,401 training and 2,467 test images of seven classes, grey [N,28,28], in official order.

    Raises:
        HostError: no source can be reached.
    """
    everything = load_fashion_mnist(cache)
    return Collection(
        first_of_each(everything.train, _SKEWED, falling(_MOST_TRAIN_IMAGES, len(_SKEWED))),
        first_of_each(everything.test, _SKEWED, falling(_MOST_TEST_IMAGES, len(_SKEWED))),
    )


def falling(most: int, classes: int) -> list[int]:
    """Counts that fall by one factor from class to class, down to a twentieth of `most`."""
    places = np.linspace(0, 1, classes)
    return [round(count) for count in most * float(_MOST_TO_LEAST) ** -places]


def load_pairs(cache: Path) -> Collection:
    """6,000 training and 2,000 test pairs, grey [N,28,56], as `side_by_side` makes them.

    Raises:
        HostError: no source can be reached.
    """
    everything = load_fashion_mnist(cache)
    rng = np.random.default_rng(_SEED)
    return Collection(
        side_by_side(everything.train, _TRAIN_PAIRS, rng),
        side_by_side(everything.test, _TEST_PAIRS, rng),
    )


def side_by_side(part: Labelled, count: int, rng: np.random.Generator) -> Labelled:
    """Two different images beside each other; the labels are both classes, bool [N, classes].

    A side is blank now and then, and so are both: such a pair has no label.
    """
    rows = rng.permutation(len(part))[: 2 * count].reshape(count, 2)
    is_shown = rng.random((count, 2)) >= _BLANK_SHARE
    sides = part.images[rows] * is_shown[:, :, None, None]
    classes = int(part.labels.max()) + 1
    labels = np.zeros((count, classes), dtype=bool)
    pair, side = np.nonzero(is_shown)
    labels[pair, part.labels[rows[pair, side]]] = True
    return Labelled(_joined(sides.astype(np.uint8)), labels)


def _joined(sides: Pixels) -> Pixels:
    """Images [N,2,H,W] as [N,H,2W]."""
    return np.ascontiguousarray(np.concatenate([sides[:, 0], sides[:, 1]], axis=2))
