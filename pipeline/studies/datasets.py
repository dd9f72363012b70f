"""The public data sets that studies train on, with their own test images to validate on.

Competitions hide their test labels; a study of a network repeats the benchmark as published.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.host.sources import cifar10, digits, mnist
from pipeline.host.sources.images import Collection, Labelled
from pipeline.host.state import default_state
from pipeline.training.batches import FoldData

_SOURCES: dict[str, Callable[[Path], Collection]] = {
    "digits": digits.load,
    "mnist": mnist.load_mnist,
    "fashion-mnist": mnist.load_fashion_mnist,
    "cifar10": cifar10.load,
}
_SIDE_OF_PADDED_DIGITS = 28


def load_benchmark(name: str, device: str, *, mirror: bool = False) -> FoldData:
    """A data set by name, on the device: trained on its training part, validated on its test part.

    digits stands in for the others where work is kept small: it needs no network. Its 8 x 8 images
    are framed to 28 x 28, which is what the networks of the studies take.

    Raises:
        HostError: no source can be reached.
    """
    folder = default_state() / "sources"
    folder.mkdir(parents=True, exist_ok=True)
    found = _SOURCES[name](folder)
    images = torch.cat([_images(found.train), _images(found.test)])
    labels = np.concatenate([found.train.labels, found.test.labels]).astype(np.int64)
    count = len(found.train)
    return FoldData(
        images=images.to(device),
        labels=torch.from_numpy(labels).to(device),
        train=torch.arange(count, device=device),
        valid=torch.arange(count, len(labels), device=device),
        classes=int(labels.max()) + 1,
        mirror=mirror,
    )


def _images(part: Labelled) -> Tensor:
    """uint8 [N, H, W, C]."""
    images = torch.tensor(part.images)  # a copy: what was read may not be written to
    if images.ndim == 3:
        images = images[..., None]
    free = _SIDE_OF_PADDED_DIGITS - images.shape[1]
    if free > 0:
        before, after = free // 2, free - free // 2
        images = torch.nn.functional.pad(images, (0, 0, before, after, before, after))
    return images.contiguous()
