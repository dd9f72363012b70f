"""Direct convolution: plain sums over the taps of a square kernel, with strides of 1 or 2.

The multiplications are the library's; the gain is in gradients, of kernels and where there are
strides, which the library computes at a half to a quarter of the processor's speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.convs.geometry import Geometry
from pipeline.convs.native_conv import NativeConv

_STRIDES = ((1, 1), (2, 2))


def _takes(shape: Sequence[int], out_channels: int, geometry: Geometry) -> bool:
    kernel, stride, padding, dilation, extra = geometry
    square = len({*kernel}) == len({*padding}) == 1
    plain = stride in _STRIDES and {*dilation} == {1} and not any(extra)
    return square and plain and min(geometry.outputs(shape[2:])) > 0


def _arguments(geometry: Geometry) -> tuple[int, ...]:
    return geometry.kernel[0], geometry.stride[0], geometry.padding[0]


DIRECT = NativeConv(Path(__file__).with_suffix(".cpp"), _takes, _arguments)
