"""The images of a fold, and the batches of an epoch: the same for the same seed, from any step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.training import group
from pipeline.training.augment import Views, fixed_view, random_views, take
from pipeline.training.mixing import mixed_images, mixed_labels, random_weights
from pipeline.training.placement import brought
from pipeline.training.prefetch import prefetched
from pipeline.training.recipes import Recipe

Batch = tuple[Tensor, Tensor]
EVALUATED_PIXELS = 2**19  # of 512 images of 32 x 32


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldData:
    """A competition's training images, and which of them one fold uses.

    `images` uint8 [N, H, W, C], on the device where they fit there; `labels` int64 [N] or, where an
    image may have several, bool [N, classes], on the device; `train` and `valid` are int64 row
    numbers, where the images are. The last `pseudo` of `train` are test images with pseudo-labels.
    """

    images: Tensor
    labels: Tensor
    train: Tensor
    valid: Tensor
    classes: int
    mirror: bool
    pseudo: int = 0

    @property
    def labelled(self) -> Tensor:
        """The row numbers of the training images that have a label of their own."""
        return self.train[: len(self.train) - self.pseudo]

    @property
    def side(self) -> int:
        """The images' shorter side in pixels."""
        return min(self.images.shape[1:3])

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.labels.ndim == 2

    @property
    def is_streamed(self) -> bool:
        """Whether each batch has to be brought to the device."""
        return self.images.device != self.labels.device

    def seen(self, index: Tensor, views: Views) -> Batch:
        """The images `index` as seen through `views`, and their labels, on the device."""
        images, device = take(self.images, index, views), self.labels.device
        return brought(images, device), self.labels[index.to(device)]


def steps_per_epoch(data: FoldData, batch: int) -> int:
    """Full batches in one pass over the training images."""
    return len(data.train) // batch


def epoch_batches(
    data: FoldData, recipe: Recipe, batch: int, seed: int, skip: int = 0
) -> Iterator[Batch]:
    """The training images in random order, augmented; an incomplete last batch is left out.

    Each comes once, unless the recipe draws rare classes more often.

    Yields uint8 images [batch, H, W, C] and labels [batch] on the device or, where the recipe
    blends images, both as floats: labels as class probabilities [batch, classes]. The first `skip`
    batches are left out: the others are the same with and without them. Processes that train the
    fold together get their share of each batch.
    """
    batches = _batches(data, recipe, batch, seed, skip)
    return prefetched(batches) if data.is_streamed else batches


def _batches(data: FoldData, recipe: Recipe, batch: int, seed: int, skip: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    device = data.images.device
    order = data.train[_order(data, recipe, generator).to(device)]
    max_shift = recipe.shift_for(data.side)
    for step in range(steps_per_epoch(data, batch)):
        views = random_views(batch, max_shift, data.mirror, generator, device)
        weights = random_weights(batch, recipe.mixup, generator) if recipe.mixup else None
        if step < skip:
            continue
        index = order[step * batch : (step + 1) * batch]
        own = data.seen(group.share(index), views.share())
        if weights is None:
            yield own
        else:  # each image with the one that stands before it in the whole batch
            others = data.seen(group.share(index.roll(1)), views.roll(1).share())
            yield _mixed(data, own, others, group.share(weights))


def _order(data: FoldData, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Places in `data.train` in random order: each once or, balanced, rare classes more often."""
    if not recipe.balanced_sampling:
        return torch.randperm(len(data.train), generator=generator)
    labels = data.labels.cpu()[data.train.cpu()]
    chances = torch.bincount(labels).double()[labels].pow(-recipe.balanced_sampling)
    return torch.multinomial(chances, len(labels), replacement=True, generator=generator)


def _mixed(data: FoldData, own: Batch, others: Batch, weights: Tensor) -> Batch:
    weights = weights.to(data.labels.device)
    images = mixed_images(own[0], others[0], weights)
    return images, mixed_labels(own[1], others[1], weights, data.classes)


def valid_batches(data: FoldData) -> Iterator[Batch]:
    """The fold's validation images as they are, and their labels, on the device; or a share."""
    for index in evaluated_together(group.share(data.valid), data.images):
        yield data.seen(index, fixed_view(len(index), 0, 0, False, data.images.device))


def evaluated_together(
    index: Tensor, images: Tensor, pixels: int = EVALUATED_PIXELS
) -> tuple[Tensor, ...]:
    """The row numbers `index` in parts that pass through a network at once, without gradients.

    The larger the images [N, H, W, C], the fewer make up `pixels`; a part has at least one.
    """
    height, width = images.shape[1:3]
    parts: tuple[Tensor, ...] = index.split(max(1, pixels // (height * width)))
    return parts
