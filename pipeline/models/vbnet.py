"""A 3D V-Net for segmentation, after Milletari et al. 2016, arXiv:1606.04797."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.convs import make_conv

WIDTHS = (16, 32, 64, 128, 256)
UNITS_DOWN = (2, 3, 4, 4, 4)
UNITS_UP = (3, 3, 2, 1)
GROUPS = 16
Norm = Callable[[int], nn.Module]


def group_norm(channels: int) -> nn.Module:
    """Group norm (Wu and He 2018, arXiv:1803.08494) in 16 groups, as a network's `norm`."""
    return nn.GroupNorm(GROUPS, channels)


class Unit(nn.Sequential):
    """Convolution with all its biases, norm, ReLU, dropout of whole channels."""

    def __init__(
        self,
        conv: str,
        in_channels: int,
        out_channels: int,
        dropout: float,
        norm: Norm,
        kernel_size: int = 3,
        stride: int = 1,
    ) -> None:
        super().__init__(
            make_conv(
                conv,
                in_channels,
                out_channels,
                kernel_size,
                dimensions=3,
                stride=stride,
                padding=1 if kernel_size == 3 else 0,
                bias=True,
                inner_bias="where-possible",
            ),
            norm(out_channels),
            nn.ReLU(inplace=True),
            nn.Dropout3d(dropout),
        )


class Down(nn.Module):
    """A first unit, which halves the volume on all levels but the top, and units added to it."""

    def __init__(
        self,
        conv: str,
        in_channels: int,
        out_channels: int,
        units: int,
        dropout: float,
        norm: Norm,
    ) -> None:
        super().__init__()
        size, stride = (3, 1) if out_channels == WIDTHS[0] else (2, 2)
        self.first = Unit(conv, in_channels, out_channels, dropout, norm, size, stride)
        self.rest = _units(conv, out_channels, units - 1, dropout, norm)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, D, H, W] to [N, out, D', H', W']."""
        first = self.first(x)
        return first + self.rest(first)  # type: ignore[no-any-return]


class Up(nn.Module):
    """The smaller volume brought to the skip's size, joined with it, and units added to it.

    It grows by a transposed convolution, never the chosen variant; on the top level by a unit
    and trilinear interpolation alone.
    """

    def __init__(self, conv: str, in_channels: int, units: int, dropout: float, norm: Norm) -> None:
        super().__init__()
        width = in_channels // 2
        self.grow: nn.Module
        if width == WIDTHS[0]:
            self.grow = Unit(conv, in_channels, width, dropout, norm)
        else:
            self.grow = nn.ConvTranspose3d(in_channels, width, 2, stride=2)
        self.join = Unit(conv, in_channels, width, dropout, norm)
        self.rest = _units(conv, width, units - 1, dropout, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """[N, in, D, H, W] and the skip [N, in / 2, D', H', W'] to the skip's shape."""
        grown = F.interpolate(self.grow(x), skip.shape[2:], mode="trilinear")
        return grown + self.rest(self.join(torch.cat([grown, skip], 1)))  # type: ignore[no-any-return]


class VBNet(nn.Module):
    """Five levels down to 256 channels, four up with skips, a score per voxel and class.

    With one input channel and one class: 10,052,609 parameters with `subkernel`, 1,145,061 with
    `bottleneck`.

    Args:
        norm: makes the norm of so many channels.
    """

    def __init__(
        self,
        conv: str,
        in_channels: int,
        classes: int,
        dropout: float = 0.01,
        norm: Norm = nn.BatchNorm3d,
    ) -> None:
        super().__init__()
        channels = (in_channels, *WIDTHS)
        self.down = nn.ModuleList(
            Down(conv, channels[level], width, UNITS_DOWN[level], dropout, norm)
            for level, width in enumerate(WIDTHS)
        )
        self.up = nn.ModuleList(
            Up(conv, width, units, dropout, norm)
            for width, units in zip(reversed(WIDTHS[1:]), UNITS_UP, strict=True)
        )
        self.head = nn.Conv3d(WIDTHS[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, D, H, W] to scores [N, classes, D, H, W]; each side must be 16 or more."""
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        skips.pop()
        for level in self.up:
            x = level(x, skips.pop())
        return self.head(x)  # type: ignore[no-any-return]


def _units(conv: str, channels: int, count: int, dropout: float, norm: Norm) -> nn.Sequential:
    return nn.Sequential(*(Unit(conv, channels, channels, dropout, norm) for _ in range(count)))
