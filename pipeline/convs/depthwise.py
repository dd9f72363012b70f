"""Gradients of a depthwise convolution on a CPU, by the forms that its library is fast in.

oneDNN (torch 2.15) has no fast bf16 gradient of the input with a stride, and none at all in 3D. But
the gradient of the input is a depthwise convolution of the output's gradient with the mirrored
kernel, for which it has, and in 3D the weight's gradient is one of planes, tap by tap of the depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.convs.geometry import CONVOLVE, Geometry


def input_gradient(grad: Tensor, shape: Sequence[int], weight: Tensor, where: Geometry) -> Tensor:
    """The gradient [N, C, *spatial], of that `shape`, of the input.

    Args:
        grad: of the output, [N, C, *outputs].
        shape: of the input, its extra zeros included.
        weight: [C, 1, *kernel].
        where: the taps' places.
    """
    axes = zip(
        *(shape[2:], grad.shape[2:], where.kernel, where.stride, where.padding, where.dilation),
        strict=True,
    )
    ends = [
        (dilation * (kernel - 1) - padding, size - (outputs - 1) * stride - 1 + padding)
        for size, outputs, kernel, stride, padding, dilation in axes
    ]
    one, padding = (1,) * where.dimensions, tuple(first for first, _ in ends)
    if where.stride != one or any(first < 0 or first != last for first, last in ends):
        grad, padding = _spread(grad, where.stride, ends), (0,) * where.dimensions
    mirrored = weight.flip(tuple(range(2, weight.ndim)))
    return CONVOLVE[where.dimensions](
        grad, mirrored, None, one, padding, where.dilation, len(weight)
    )


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, where: Geometry) -> Tensor:
    """The gradient [C, 1, *kernel] of the weight; x [N, C, *spatial] with its extra zeros."""
    if where.dimensions == 2:
        return _planar_weight_gradient(grad, x, weight, where)
    planar = Geometry(*(part[1:] for part in where))
    taps = [
        _planar_weight_gradient(*_planes(grad, x, where, tap), weight[:, :, tap], planar)
        for tap in range(where.kernel[0])
    ]
    return torch.stack(taps, 2)


def _planes(grad: Tensor, x: Tensor, where: Geometry, tap: int) -> tuple[Tensor, Tensor]:
    """The planes of the output that a tap of the depth reaches, and those of x that it takes."""
    stride, offset = where.stride[0], tap * where.dilation[0] - where.padding[0]
    first = max(0, -(offset // stride))
    last = max(first, min(grad.shape[2], (x.shape[2] - 1 - offset) // stride + 1))
    taken = x[:, :, first * stride + offset :: stride][:, :, : last - first]
    reached = grad[:, :, first:last]
    return reached.transpose(1, 2).flatten(0, 1), taken.transpose(1, 2).flatten(0, 1)


def _planar_weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, where: Geometry) -> Tensor:
    if not len(x):
        return torch.zeros_like(weight)
    gradient: Tensor = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        None,
        where.stride,
        where.padding,
        where.dilation,
        False,
        [0, 0],
        len(weight),
        [False, True, False],
    )[1]
    return gradient


def _spread(grad: Tensor, stride: tuple[int, ...], ends: list[tuple[int, int]]) -> Tensor:
    """The gradient with zeros between its elements, where the stride left inputs out.

    At both ends come so many zeros more, or as many places less where the number is negative.
    """
    places, inside, sizes = [], [], []
    for n, step, (first, last) in zip(grad.shape[2:], stride, ends, strict=True):
        begin, length = max(0, first), (n - 1) * step + 1
        sizes.append(begin + length + max(0, last))
        places.append(slice(begin, begin + length, step))
        inside.append(slice(max(0, -first), sizes[-1] - max(0, -last)))
    spread = grad.new_zeros(len(grad), *sizes, grad.shape[1]).movedim(-1, 1)
    spread[:, :, *places] = grad
    return spread[:, :, *inside]
