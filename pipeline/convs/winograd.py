"""Convolution of 3 x 3 by Winograd's F(2 x 4, 3 x 3): 24 multiplications where plain sums take 72.

Lavin & Gray 2015, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308.
Transformed numbers are rounded to bf16, too, so that results are about three times as far from the
exact ones as the library's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.convs.geometry import Geometry
from pipeline.convs.native_conv import NativeConv

_GEOMETRY = Geometry((3, 3), (1, 1), (1, 1), (1, 1), (0, 0))


def _takes(shape: Sequence[int], out_channels: int, geometry: Geometry) -> bool:
    return geometry == _GEOMETRY


WINOGRAD = NativeConv(Path(__file__).with_suffix(".cpp"), _takes, lambda geometry: ())
