"""Augmentation that mixes two images of a batch; drawn for each image, done on the device.

mixup: Zhang et al. 2017, arXiv:1710.09412. cutmix: Yun et al. 2019, arXiv:1905.04899.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.training import group
from pipeline.training.recipes import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """What is done to each image of a batch.

    Attributes:
        replaced: pixels that come from another image, bool [N, H, W].
        weight: of the image's own colours in the other pixels, [N].
    """

    replaced: Tensor
    weight: Tensor

    def share(self) -> Mixture:
        """That of this process's part of the batch."""
        return Mixture(replaced=group.share(self.replaced), weight=group.share(self.weight))

    def images(self, own: Tensor, others: Tensor) -> Tensor:
        """Float [N, H, W, C] from uint8 images and those that they are mixed with."""
        device = own.device
        own, others = own.float(), others.float()
        own = torch.lerp(others, own, self.weight[:, None, None, None].to(device))
        return torch.where(self.replaced[..., None].to(device), others, own)

    def targets(self, own: Tensor, others: Tensor, classes: int) -> Tensor:
        """Class probabilities float [N, classes] from the labels int64 [N] of both."""
        weight = (self.weight * (1 - self.replaced.float().mean((1, 2)))).to(own.device)
        return torch.lerp(
            F.one_hot(others, classes).float(), F.one_hot(own, classes).float(), weight[:, None]
        )


def random_mixture(
    count: int, size: tuple[int, int], recipe: Recipe, generator: torch.Generator
) -> Mixture:
    """Draw for `count` images of `size` (H, W) pixels what the recipe wants."""

    def draw() -> Tensor:
        return torch.rand(count, generator=generator)

    chosen, length, weight = draw(), draw().sqrt(), draw()
    length = length * (chosen < recipe.cutmix)
    blended = (chosen >= recipe.cutmix) & (chosen < recipe.cutmix + recipe.mixup)
    return Mixture(
        replaced=random_boxes(length * size[0], length * size[1], size, generator),
        weight=torch.where(blended, torch.maximum(weight, 1 - weight), torch.ones(count)),
    )


def random_boxes(
    heights: Tensor, widths: Tensor, size: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Masks bool [N, H, W] of boxes `heights` x `widths` [N] pixels, cut off at the border.

    Their centres are anywhere in the image, which is `size` (H, W) pixels.
    """
    masks = []
    for lengths, whole in zip((heights, widths), size, strict=True):
        centre = torch.rand(len(lengths), generator=generator) * whole
        first = (centre - lengths / 2).round()[:, None]
        place = torch.arange(whole)
        masks.append((place >= first) & (place < first + lengths[:, None]))
    return masks[0][:, :, None] & masks[1][:, None, :]
