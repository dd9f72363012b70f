"""Convolution as matrix products on shifted slices, summed; and its transpose.

With channels last, out += slice(x, tap) @ W[tap] for every tap of the kernel. With few channels
these products are all memory traffic. Then a whole row of the image counts as one pixel whose
channels are the row's columns times channels, and the taps along the row become one banded
matrix: a convolution of one dimension less, by fewer, larger products.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.convs.geometry import compute_dtype

# Up to as many numbers in a row, multiplying the band's zeros costs less than more traffic.
_NARROW_ROW = 160
Ends = Sequence[tuple[int, int]]


def conv_shifted(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """As `F.conv2d` or `F.conv3d`: x [N, in, *spatial], weight [out, in, *k], bias [out].

    Raises:
        ValueError: the padded image is smaller than the kernel.
    """
    padded = [n + 2 * p for n, p in zip(x.shape[2:], padding, strict=True)]
    spatial = zip(padded, weight.shape[2:], stride, dilation, strict=True)
    sizes = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in spatial]
    if min(sizes) < 1:
        raise ValueError(
            f"an image of {_sides(padded)} pixels, padding included, is smaller than a kernel of "
            f"{_sides(weight.shape[2:])}, dilation {_sides(dilation)}"
        )
    shifts = _Shifts(weight, padded, sizes, stride, dilation)
    x = x.to(compute_dtype(x))
    ends = [(p, p) for p in padding]
    return _finish(_Convolve.apply(shifts, ends, x, shifts.taps(weight.to(x.dtype))), bias)


def conv_transpose_shifted(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """As `F.conv_transpose2d` or `3d`: x [N, in, *spatial], weight [in, out, *k], bias [out]."""
    spatial = zip(x.shape[2:], weight.shape[2:], stride, dilation, strict=True)
    full = [(n - 1) * s + d * (k - 1) + 1 for n, k, s, d in spatial]
    shifts = _Shifts(weight, full, x.shape[2:], stride, dilation)
    x = x.to(compute_dtype(x))
    out = _ConvolveTransposed.apply(shifts, x, shifts.taps(weight.to(x.dtype)))
    ends = [(-p, extra - p) for p, extra in zip(padding, output_padding, strict=True)]
    return _finish(_pad(out, ends), bias)


def _sides(lengths: Sequence[int]) -> str:
    return " x ".join(map(str, lengths))


def _pad(image: Tensor, ends: Ends) -> Tensor:
    """Zeros at both ends of each spatial dimension of [N, *spatial, C]; below 0 it crops."""
    widths = [0, 0] + [width for pair in reversed(ends) for width in pair]
    return F.pad(image, widths) if any(widths) else image


def _finish(image: Tensor, bias: Tensor | None) -> Tensor:
    image = image if bias is None else image + bias.to(image.dtype)
    return image.contiguous().movedim(-1, 1)


class _Shifts:
    """How the taps of a kernel link a large image [N, *large, L] with a small one [N, *small, S].

    A convolution gathers from large to small, a transposed one scatters from small to large;
    each is the other's backward, and the gradient of the taps is the same for both.

    With stride 1 the small image is laid on the large one's grid, zero where it does not reach.
    Then every slice is one contiguous range of pixels, which a matrix product takes without a
    copy; what the ranges mix across borders falls on the zeros or is cut off.
    """

    def __init__(
        self,
        weight: Tensor,
        large: Sequence[int],
        small: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
    ) -> None:
        """For a weight [S, L, *k]."""
        self.large, self.small = (*large, weight.shape[1]), (*small, len(weight))
        self.stride, self.dilation = stride[-1], dilation[-1]
        self.narrow = max(prod(self.large[-2:]), prod(self.small[-2:])) <= _NARROW_ROW
        dimensions = len(large) - self.narrow
        sides = [*zip(weight.shape[2:], small, stride, dilation, strict=True)][:dimensions]
        self.slices = list(product(*(_along(*side) for side in sides)))
        self.on_grid = all(s == 1 for s in stride[:dimensions])
        self.grid = (*large[:dimensions], *small[dimensions:]) if self.on_grid else tuple(small)
        pitches = [prod(large[i + 1 : dimensions]) for i in range(dimensions)]
        self.starts = [
            sum(part.start * pitch for part, pitch in zip(place, pitches, strict=True))
            for place in self.slices
        ]

    def taps(self, weight: Tensor) -> Tensor:
        """The matrix of each slice, [slices, L, S]; of a narrow row [slices, row·L, row·S]."""
        taps = self._band(weight) if self.narrow else weight.flatten(2).permute(2, 1, 0)
        return taps.contiguous()

    def _band(self, weight: Tensor) -> Tensor:
        """band[(u, l), (v, s)] = Σ_k weight[s, l, k] where u = v · stride + k · dilation."""
        (columns, _), (out_columns, _) = self.large[-2:], self.small[-2:]
        taps = torch.arange(weight.shape[-1], device=weight.device)[:, None] * self.dilation
        met = torch.arange(out_columns, device=weight.device) * self.stride + taps
        places = F.one_hot(met, columns).to(weight.dtype)
        band = torch.einsum("slrk,kvu->rulvs", weight.flatten(2, -2), places)
        return band.flatten(3).flatten(1, 2)

    def gather(self, large: Tensor, taps: Tensor) -> Tensor:
        """Σ slice(large) @ tap: [N, *small, S]."""
        small = large.new_empty(len(large), *self.grid, self.small[-1])
        rows = self._pixels(small)
        for i, matrix in enumerate(taps):
            part = self._slice(large, i)
            rows[: len(part)].addmm_(part, matrix, beta=min(i, 1))
        return small[:, *map(slice, self.small[:-1])]

    def scatter(self, small: Tensor, taps: Tensor) -> Tensor:
        """Add small @ tapᵀ to each slice of zeros: [N, *large, L]."""
        large = small.new_zeros(len(small), *self.large)
        rows = self._lay(small)
        for i, matrix in enumerate(taps):
            if self.on_grid:
                part = self._slice(large, i)
                part.addmm_(rows[: len(part)], matrix.T)
            else:
                part = self._merge(large)[:, *self.slices[i]]
                part += (rows @ matrix.T).view(part.shape)
        return large

    def outer(self, large: Tensor, small: Tensor) -> Tensor:
        """slice(large)ᵀ @ small, the gradient of each tap."""
        rows = self._lay(small)
        parts = (self._slice(large, i) for i in range(len(self.slices)))
        return torch.stack([part.T @ rows[: len(part)] for part in parts])

    def _merge(self, image: Tensor) -> Tensor:
        """The image with a narrow row as one pixel."""
        return image.flatten(-2) if self.narrow else image

    def _pixels(self, image: Tensor) -> Tensor:
        return self._merge(image).flatten(0, -2)

    def _slice(self, large: Tensor, i: int) -> Tensor:
        """The pixels that tap i meets; on the grid a view, up to where the last tap ends."""
        if not self.on_grid:
            return self._merge(large)[:, *self.slices[i]].flatten(0, -2)
        pixels = self._pixels(large)
        reach = len(pixels) - self.starts[-1]
        return pixels[self.starts[i] : self.starts[i] + reach]

    def _lay(self, small: Tensor) -> Tensor:
        """The small image's pixels on the grid."""
        ends = [(0, n - m) for n, m in zip(self.grid, self.small, strict=False)]
        return self._pixels(_pad(small, ends))


def _along(kernel: int, size: int, stride: int, dilation: int) -> list[slice]:
    """Per tap of one dimension the places that it meets."""
    reach = (size - 1) * stride + 1
    return [slice(k * dilation, k * dilation + reach, stride) for k in range(kernel)]


class _Convolve(torch.autograd.Function):
    """From x [N, C, *spatial], all that it keeps besides the taps, to [N, *small, S].

    Autograd of the slices would keep the padded image and build another one for every tap.
    """

    @staticmethod
    def forward(ctx: Any, shifts: _Shifts, ends: Ends, x: Tensor, taps: Tensor) -> Tensor:
        ctx.shifts, ctx.ends = shifts, ends
        ctx.save_for_backward(x, taps)
        return shifts.gather(_pad(x.movedim(1, -1), ends).contiguous(), taps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor | None, Tensor]:
        x, taps = ctx.saved_tensors
        grad, grad_x = grad.contiguous(), None
        if ctx.needs_input_grad[2]:
            crop = [(-low, -high) for low, high in ctx.ends]
            grad_x = _pad(ctx.shifts.scatter(grad, taps), crop).movedim(-1, 1)
        large = _pad(x.movedim(1, -1), ctx.ends).contiguous()
        return None, None, grad_x, ctx.shifts.outer(large, grad)


class _ConvolveTransposed(torch.autograd.Function):
    """From x [N, C, *spatial] to [N, *large, L]."""

    @staticmethod
    def forward(ctx: Any, shifts: _Shifts, x: Tensor, taps: Tensor) -> Tensor:
        ctx.shifts = shifts
        ctx.save_for_backward(x, taps)
        return shifts.scatter(x.movedim(1, -1).contiguous(), taps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor]:
        x, taps = ctx.saved_tensors
        grad, grad_x = grad.contiguous(), None
        if ctx.needs_input_grad[1]:
            grad_x = ctx.shifts.gather(grad, taps).movedim(-1, 1)
        return None, grad_x, ctx.shifts.outer(grad, x.movedim(1, -1).contiguous())
