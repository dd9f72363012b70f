"""Convolution of 3 x 3 by Winograd's F(2 x 2, 3 x 3): 16 multiplications where plain sums take 36.

Lavin & Gray 2015, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308. The work
is done by `winograd.cpp`, for processors that multiply bf16 in their vector registers. Transformed
numbers are rounded to bf16, too, so that results are about twice as far from the exact ones as the
library's.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.convs.geometry import Geometry
from pipeline.native import native_library, native_problem, processor_flags

SOURCE = Path(__file__).with_suffix(".cpp")
_GEOMETRY = Geometry((3, 3), (1, 1), (1, 1), (1, 1), (0, 0))
_CHANNELS, _ROWS, _COLUMNS = 16, 2, 4  # come in multiples of
_FEWEST_CHANNELS = 32  # with fewer the transforms cost what the products save


def winograd_problem() -> str | None:
    """Why this machine cannot compute so; None if it can."""
    if "avx512_bf16" not in processor_flags():
        return "the processor does not report avx512_bf16"
    return native_problem(SOURCE)


def winograd_fits(x: Tensor, geometry: Geometry, out_channels: int, dtype: torch.dtype) -> bool:
    """Whether x [N, in, H, W] is to be convolved so, in `dtype`, on this machine."""
    if x.device.type != "cpu" or dtype != torch.bfloat16 or geometry != _GEOMETRY:
        return False
    images, in_channels, height, width = x.shape
    if not images or min(in_channels, out_channels) < _FEWEST_CHANNELS:
        return False
    rest = (in_channels % _CHANNELS, out_channels % _CHANNELS, height % _ROWS, width % _COLUMNS)
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return not any(rest) and channels_last and winograd_problem() is None


def conv_winograd(x: Tensor, weight: Tensor) -> Tensor:
    """x bf16 [N, in, H, W], channels last, with weight [out, in, 3, 3] to bf16 [N, out, H, W].

    `winograd_fits` says of which x.
    """
    weight = weight.float().contiguous(memory_format=torch.channels_last)
    y: Tensor = _Winograd.apply(x, weight)
    return y


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        shape = (len(x), len(weight), *x.shape[2:])
        y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        return _call("forward", x, weight, y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _call("input_gradient", grad, weight, torch.empty_like(x))
        if ctx.needs_input_grad[1]:
            grad_weight = _call("kernel_gradient", x, grad, torch.empty_like(weight))
        return grad_x, grad_weight


def _call(what: str, first: Tensor, second: Tensor, result: Tensor) -> Tensor:
    """The native function that computes `result` from the others."""
    images, kernel = (first, result) if what == "kernel_gradient" else (first, second)
    count, _, height, width = images.shape
    out_channels, in_channels = kernel.shape[:2]
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (first, second, result)]
    function = getattr(native_library(SOURCE), f"winograd_{what}")
    sizes = ctypes.c_int64(count), height, width, in_channels, out_channels
    function(*pointers, *sizes, torch.get_num_threads())
    return result
