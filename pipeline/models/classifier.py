"""A network together with the normalisation that it was trained with."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ImageClassifier(nn.Module):
    """Takes images as the tensor cache holds them, uint8 [N, H, W, C], and returns logits.

    The channel mean and deviation are buffers, so a weights file is complete by itself. NHWC
    seen as NCHW is PyTorch's channels_last layout: no copy is made.

    Args:
        net: maps float [N, C, H, W] to logits [N, classes].
        mean, std: per channel, in pixel values 0 to 255; shape [C].
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, net: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", 1 / std.float())

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W, C] to logits [N, classes]."""
        # Whole rows at a time: over three numbers a CPU takes five times as long.
        width = images.shape[2]
        rows = images.float().flatten(2)
        x = (rows - self.mean.repeat(width)) * self.scale.repeat(width)
        return self.net(x.view(images.shape).permute(0, 3, 1, 2))  # type: ignore[no-any-return]


def channel_statistics(
    images: Tensor, index: Tensor | None = None, chunk_pixels: int = 2**22
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel of uint8 images [N, H, W, C], in 0 to 255.

    `index`, int64 where the images are, chooses some of them; only a chunk of these is ever copied.
    A channel without variation gets deviation 1, so that it is only centred.
    """
    channels = images.shape[-1]
    total = torch.zeros(channels, dtype=torch.float64, device=images.device)
    squares = torch.zeros_like(total)
    pixels_per_image = images.shape[1] * images.shape[2]
    chunk = max(1, chunk_pixels // pixels_per_image)
    parts = images.split(chunk) if index is None else (images[rows] for rows in index.split(chunk))
    for part in parts:
        pixels = part.reshape(-1, channels).double()
        total += pixels.sum(0)
        squares += pixels.square().sum(0)
    count = pixels_per_image * (len(images) if index is None else len(index))
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    return mean.float(), torch.where(std > 0, std, torch.ones_like(std)).float()
