"""Where the taps of a kernel stand on an image, in two or three dimensions."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import ConfigError

CONVOLVE = {2: F.conv2d, 3: F.conv3d}
PerDimension = int | Sequence[int]
Place = tuple[slice, ...]


class Geometry(NamedTuple):
    """One entry per spatial dimension in each field.

    `padding` zeros stand on both sides; `extra` more at the end only, which "same" needs where
    dilation · (kernel - 1) is odd.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    extra: tuple[int, ...]

    @property
    def dimensions(self) -> int:
        return len(self.kernel)

    def outputs(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """The size of the convolution of an image [N, in, *spatial]."""
        return _outputs(self, tuple(spatial))

    def pointwise(self) -> Geometry:
        """A 1 x 1 kernel in as many dimensions."""
        one, zero = (1,) * self.dimensions, (0,) * self.dimensions
        return Geometry(one, one, zero, one, zero)

    def pad_end(self, x: Tensor, sign: int = 1) -> Tensor:
        """Append the extra zeros to x [N, C, *spatial]; with sign -1 cut as much off."""
        if not any(self.extra):
            return x
        return F.pad(x, [sign * e for extra in reversed(self.extra) for e in (0, extra)])

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int = 1) -> Tensor:
        """The library's convolution of x [N, in, *spatial] with weight [out, in/groups, *k]."""
        where = (self.stride, self.padding, self.dilation)
        return CONVOLVE[self.dimensions](self.pad_end(x), weight, bias, *where, groups)

    def border(self, spatial: Sequence[int], like: Tensor) -> Iterator[tuple[Place, list[Tensor]]]:
        """The outputs that have taps on the padding, as slices that do not overlap.

        With each slice comes per dimension a matrix [k, n]: 1 where a tap meets the image. It
        has one column where all outputs of the slice are alike.
        """
        axes = [_Axis(*axis) for axis in zip(spatial, *self, strict=True)]
        met = [axis.taps_inside(like) for axis in axes]
        for i, axis in enumerate(axes):
            inner = [a.interior for a in axes[:i]]
            if any(part.start == part.stop for part in inner):
                return
            outer = [slice(0, a.outputs) for a in axes[i + 1 :]]
            alike = [m[:, part][:, :1] for m, part in zip(met, inner, strict=False)]
            for side in slice(0, axis.interior.start), slice(axis.interior.stop, axis.outputs):
                if side.start < side.stop:
                    yield (*inner, side, *outer), [*alike, met[i][:, side], *met[i + 1 :]]

    def memory_format(self, x: Tensor) -> torch.memory_format:
        """Channels last where x is surely laid out so, else contiguous."""
        last = torch.channels_last if self.dimensions == 2 else torch.channels_last_3d
        surely = x.is_contiguous(memory_format=last) and not x.is_contiguous()
        return last if surely else torch.contiguous_format


@functools.cache  # asked for each layer in each step
def _outputs(geometry: Geometry, spatial: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(_Axis(*axis).outputs for axis in zip(spatial, *geometry, strict=True))


class _Axis(NamedTuple):
    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    extra: int

    @property
    def reach(self) -> int:
        """Places from the first tap to the last."""
        return self.dilation * (self.kernel - 1)

    @property
    def outputs(self) -> int:
        return (self.size + 2 * self.padding + self.extra - self.reach - 1) // self.stride + 1

    @property
    def interior(self) -> slice:
        """The outputs whose taps all meet the image; empty if none do."""
        first = min(-(-self.padding // self.stride), self.outputs)
        last = (self.size - 1 - self.reach + self.padding) // self.stride
        return slice(first, max(first, min(last + 1, self.outputs)))

    def taps_inside(self, like: Tensor) -> Tensor:
        """[kernel, outputs]: 1 where a tap meets the image, 0 on the padding."""
        starts = torch.arange(self.outputs, device=like.device) * self.stride - self.padding
        taps = torch.arange(self.kernel, device=like.device) * self.dilation
        places = taps[:, None] + starts
        return ((places >= 0) & (places < self.size)).to(like.dtype)


def make_geometry(
    dimensions: int,
    kernel_size: PerDimension,
    stride: PerDimension = 1,
    padding: PerDimension | str = 0,
    dilation: PerDimension = 1,
) -> Geometry:
    """Check the arguments of a convolution and write them once per dimension.

    Raises:
        ConfigError: an argument has no meaning for a convolution.
    """
    if dimensions not in CONVOLVE:
        raise ConfigError(f"dimensions={dimensions!r}: choose 2 or 3")
    kernel = _per_dimension("kernel_size", kernel_size, dimensions, least=1)
    strides = _per_dimension("stride", stride, dimensions, least=1)
    dilations = _per_dimension("dilation", dilation, dimensions, least=1)
    none = (0,) * dimensions
    if not isinstance(padding, str):
        pads = _per_dimension("padding", padding, dimensions, least=0)
        return Geometry(kernel, strides, pads, dilations, none)
    if padding != "same":
        raise ConfigError(f'padding={padding!r}: choose whole numbers from 0 or "same"')
    if any(s != 1 for s in strides):
        raise ConfigError(f'padding="same" with stride={stride!r}: choose stride 1 or a number')
    spans = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
    half, odd = tuple(s // 2 for s in spans), tuple(s % 2 for s in spans)
    return Geometry(kernel, strides, half, dilations, odd)


def _per_dimension(
    name: str, value: PerDimension, dimensions: int, *, least: int
) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, Sequence) else (value,) * dimensions
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v >= least for v in values)
    if len(values) != dimensions or not whole:
        raise ConfigError(
            f"{name}={value!r}: choose a whole number from {least}, or {dimensions} of them"
        )
    return values


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which the library would convolve x: autocast's, where it is on."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(kind)
    return x.dtype
