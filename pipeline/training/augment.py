"""Augmentation of a whole batch on the device, with every image drawing its own parameters.

Selecting the batch, shifting, padding by reflection and mirroring are one gather of pixels, so
an augmented batch costs one read of the cached images. Test-time views use the same gather.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.training import group


@dataclass(frozen=True, kw_only=True, slots=True)
class Views:
    """How each image of a batch is seen: shifted by (down, right) pixels, and mirrored or not.

    All tensors have shape [N]; `down` and `right` are int64, `mirrored` is bool.
    """

    down: Tensor
    right: Tensor
    mirrored: Tensor

    def roll(self, places: int) -> Views:
        """The same views for other images: each is that of the image so many places before."""
        return Views(
            down=self.down.roll(places),
            right=self.right.roll(places),
            mirrored=self.mirrored.roll(places),
        )

    def share(self) -> Views:
        """Those of this process's part of the batch."""
        return Views(
            down=group.share(self.down),
            right=group.share(self.right),
            mirrored=group.share(self.mirrored),
        )


def random_views(
    count: int, max_shift: int, mirror: bool, generator: torch.Generator, device: torch.device
) -> Views:
    """Draw one shift in [-max_shift, max_shift]² per image, and a fair coin for the mirror."""

    def shifts() -> Tensor:
        shape = (count,)
        return torch.randint(
            -max_shift, max_shift + 1, shape, generator=generator, device=generator.device
        ).to(device, non_blocking=True)

    coin = torch.rand((count,), generator=generator, device=generator.device)
    mirrored = (coin < 0.5).to(device, non_blocking=True) & mirror
    return Views(down=shifts(), right=shifts(), mirrored=mirrored)


def fixed_view(count: int, down: int, right: int, mirrored: bool, device: torch.device) -> Views:
    """The same view for every image."""
    return Views(
        down=torch.full((count,), down, device=device),
        right=torch.full((count,), right, device=device),
        mirrored=torch.full((count,), mirrored, device=device),
    )


def take(images: Tensor, index: Tensor, views: Views) -> Tensor:
    """The images `index` of uint8 [M, H, W, C] as seen through `views`, [N, H, W, C].

    Pixels beyond the border are reflected at it.
    """
    height, width = images.shape[1:3]
    rows = _shifted(height, views.down)
    columns = _shifted(width, views.right)
    columns = torch.where(views.mirrored[:, None], columns.flip(1), columns)
    # One index for all of a pixel: an index per axis takes three times as long on a CPU.
    pixels = (index[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
    chosen = images.flatten(0, 2).index_select(0, pixels.flatten())
    return chosen.view(*pixels.shape, images.shape[3])


def shrink(images: Tensor, side: int) -> Tensor:
    """uint8 [N, H, W, C] scaled to float with the shorter side `side`; itself if it is so already.

    Early epochs on small images cost a fraction and lose little (progressive resizing, Howard
    2018): what a network learns first is coarse.
    """
    shorter = min(images.shape[1:3])
    if side == shorter:
        return images
    size = [round(length * side / shorter) for length in images.shape[1:3]]
    small = F.interpolate(
        images.permute(0, 3, 1, 2).float(), size=size, mode="bilinear", antialias=True
    )
    return small.permute(0, 2, 3, 1)


def _shifted(size: int, shift: Tensor) -> Tensor:
    """Source positions [N, size] of a line of `size` pixels moved by `shift`, reflected."""
    position = torch.arange(size, device=shift.device) - shift[:, None]
    period = max(2 * (size - 1), 1)
    position = position.remainder(period)
    return torch.where(position < size, position, period - position)
