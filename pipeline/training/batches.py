"""The images of a fold, and the batches of an epoch: the same for the same seed, from any step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.training import group
from pipeline.training.augment import fixed_view, random_views, take
from pipeline.training.recipes import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldData:
    """A competition's training images, and which of them one fold uses.

    `images` uint8 [N, H, W, C], on the device where they fit there; `labels` int64 [N] on the
    device; `train` and `valid` are int64 row numbers, where the images are.
    """

    images: Tensor
    labels: Tensor
    train: Tensor
    valid: Tensor
    mirror: bool

    @property
    def side(self) -> int:
        """The images' shorter side in pixels."""
        return min(self.images.shape[1:3])

    def batch(self, index: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images that were taken at `index`, and their labels, both on the device."""
        device = self.labels.device
        if images.device != device:
            images = images.pin_memory().to(device, non_blocking=True)
        return images, self.labels[index.to(device)]


def steps_per_epoch(data: FoldData, batch: int) -> int:
    """Full batches in one pass over the training images."""
    return len(data.train) // batch


def epoch_batches(
    data: FoldData, recipe: Recipe, batch: int, seed: int, skip: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every training image once in random order, augmented; an incomplete last batch is left out.

    Yields uint8 images [batch, H, W, C] and labels [batch] on the device, the first `skip` batches
    left out: the others are the same with and without them. Processes that train the fold together
    get their share of each batch.
    """
    generator = torch.Generator().manual_seed(seed)
    device = data.images.device
    order = data.train[torch.randperm(len(data.train), generator=generator).to(device)]
    max_shift = recipe.shift_for(data.side)
    for step in range(steps_per_epoch(data, batch)):
        views = random_views(batch, max_shift, data.mirror, generator, device)
        if step >= skip:
            index = group.share(order[step * batch : (step + 1) * batch])
            yield data.batch(index, take(data.images, index, views.share()))


def valid_batches(data: FoldData, batch: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
    """The fold's validation images as they are, and their labels, on the device; or a share."""
    for index in group.share(data.valid).split(batch):
        view = fixed_view(len(index), 0, 0, False, data.images.device)
        yield data.batch(index, take(data.images, index, view))
