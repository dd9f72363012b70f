"""Convolutions in native code, for processors that multiply bf16 in their vector registers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.convs.geometry import Geometry
from pipeline.native import native_function, native_problem

_NEEDED = "avx512_bf16"
_CHANNELS = 16  # come in multiples of
_POINTER = ctypes.c_void_p


@dataclass(frozen=True)
class NativeConv:
    """An algorithm in C++: `<stem>_forward`, `<stem>_input_gradient`, `<stem>_kernel_gradient`.

    Attributes:
        source: the C++ file.
        takes: whether it computes a convolution of images [N, in, H, W] of this shape to so many
            channels, which are multiples of 16.
        arguments: what the functions are told of the geometry.
    """

    source: Path
    takes: Callable[[Sequence[int], int, Geometry], bool]
    arguments: Callable[[Geometry], tuple[int, ...]]

    def problem(self) -> str | None:
        """Why this machine cannot compute so; None if it can."""
        return native_problem(self.source, _NEEDED)

    def fits(self, x: Tensor, geometry: Geometry, out_channels: int, dtype: torch.dtype) -> bool:
        """Whether x [N, in, *spatial] is to be convolved so, in `dtype`, on this machine."""
        if x.device.type != "cpu" or dtype != torch.bfloat16 or geometry.dimensions != 2:
            return False
        whole_groups = x.shape[1] % _CHANNELS == out_channels % _CHANNELS == 0
        if not x.numel() or not whole_groups or not self.takes(x.shape, out_channels, geometry):
            return False
        return x.is_contiguous(memory_format=torch.channels_last) and self.problem() is None

    def __call__(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """x bf16 [N, in, H, W], channels last, with weight [out, in, *k] to bf16 [N, out, H', W'].

        `fits` says of which x.

        Raises:
            ValueError: the kernel is for images of other channels.
        """
        if x.shape[1] != weight.shape[1]:
            raise ValueError(
                f"an image of {x.shape[1]} channels: the kernel takes {weight.shape[1]}"
            )
        weight = weight.float().contiguous(memory_format=torch.channels_last)
        y: Tensor = _Convolve.apply(self, geometry, x, weight)
        return y

    def compute(
        self, what: str, geometry: Geometry, images: Tensor, kernel: Tensor, *tensors: Tensor
    ) -> None:
        """Call the native function `what` on `tensors`, the last of which receives the result.

        `images` and `kernel` have the shapes of the convolution's input and weight.
        """
        count, _, height, width = images.shape
        out_channels, in_channels = kernel.shape[:2]
        own = self.arguments(geometry)
        types = (_POINTER,) * len(tensors) + (ctypes.c_int64,) + (ctypes.c_int,) * (5 + len(own))
        function = native_function(self.source, f"{self.source.stem}_{what}", *types)
        pointers = [tensor.data_ptr() for tensor in tensors]
        sizes = count, height, width, in_channels, out_channels
        function(*pointers, *sizes, *own, torch.get_num_threads())


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, algorithm: NativeConv, geometry: Geometry, x: Tensor, weight: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.algorithm, ctx.geometry = algorithm, geometry
        shape = x.shape[0], weight.shape[0], *geometry.outputs(x.shape[2:])
        y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        algorithm.compute("forward", geometry, x, weight, x, weight, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        where = ctx.geometry, x, weight
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[2]:
            grad_x = torch.empty_like(x)
            ctx.algorithm.compute("input_gradient", *where, grad, weight, grad_x)
        if ctx.needs_input_grad[3]:
            grad_weight = torch.empty_like(weight)
            ctx.algorithm.compute("kernel_gradient", *where, x, grad, grad_weight)
        return None, None, grad_x, grad_weight
