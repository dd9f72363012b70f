"""Batch norm in training on a CPU, with a sum and a ReLU behind it as one step.

The library's layers read and write the activations once each; together they take longer than the
convolutions between them. `native_norm.cpp` does the same in as few passes as there can be.
"""

from __future__ import annotations

import ctypes
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.errors import ConfigError
from pipeline.native import native_function, native_problem

SOURCE = Path(__file__).with_suffix(".cpp")
_TOGETHER = 32  # numbers that native code works on; pixels come in multiples that fill them
_POINTER = ctypes.c_void_p
_LAST = {
    "forward": (ctypes.c_float, ctypes.c_float, ctypes.c_int, ctypes.c_int),
    "backward": (ctypes.c_int, ctypes.c_int),
}  # arguments, by direction
_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class NativeBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` computed by native code while it trains on a CPU, in fp32 or bf16."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [N, C, H, W]."""
        return self._train(x, None, False) if self._is_native(x) else super().forward(x)

    def with_relu(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """relu(norm(x) + residual), all of shape [N, C, H, W]."""
        alike = residual is None or residual.shape == x.shape
        if alike and self._is_native(x):
            return self._train(x, residual, True)
        y = super().forward(x)
        return torch.relu(y if residual is None else y + residual)

    def _is_native(self, x: Tensor) -> bool:
        """Whether native code takes x; the library computes the rest, or says what is wrong."""
        if not self.training or x.device.type != "cpu" or x.dtype not in _NAMES:
            return False
        if x.ndim != 4 or x.shape[1] != self.num_features or x.numel() <= self.num_features:
            return False  # of one value there are no statistics
        whole = x.numel() % math.lcm(self.num_features, _TOGETHER) == 0
        return whole and self.weight.dtype == torch.float32

    def _train(self, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        y: Tensor = _Norm.apply(x, residual, self.weight, self.bias, self, relu)
        return y


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        norm: NativeBatchNorm2d,
        relu: bool,
    ) -> Tensor:
        x = _rows_of_channels(x)
        if residual is not None:
            residual = _rows_of_channels(residual.to(x.dtype))
        y, mean, inverse = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        moving = norm.running_mean, norm.running_var
        call = _call("forward", x, residual, weight, bias, y, mean, inverse, *moving)
        call(norm.eps, norm.momentum or 0.0, relu)
        ctx.relu, ctx.has_residual = relu, residual is not None
        sum_then_relu = y if relu and ctx.has_residual else None
        ctx.save_for_backward(x, sum_then_relu, weight, bias, mean, inverse)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y, *per_channel = ctx.saved_tensors
        grad, grad_x = _rows_of_channels(grads[0]), torch.empty_like(x)
        grad_residual = grad if y is None else torch.empty_like(x)
        own = torch.empty_like(per_channel[0]), torch.empty_like(per_channel[0])
        _call("backward", grad, x, y, *per_channel, grad_x, grad_residual, *own)(ctx.relu)
        return grad_x, grad_residual if ctx.has_residual else None, *own, None, None


def _rows_of_channels(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _call(direction: str, first: Tensor, *others: Tensor | None) -> Any:
    """The native function of the first tensor's type, waiting for its last arguments."""
    name = f"norm_{direction}_{_NAMES[first.dtype]}"
    types = [_POINTER] * (1 + len(others)) + [ctypes.c_int64, ctypes.c_int, *_LAST[direction]]
    function = native_function(SOURCE, name, *types)
    pointers = [None if t is None else t.data_ptr() for t in (first, *others)]
    channels = first.shape[1]
    shape = first.numel() // channels, channels
    return lambda *last: function(*pointers, *shape, *last, torch.get_num_threads())


def use_native_norms(model: nn.Module) -> None:
    """Turn every plain `nn.BatchNorm2d` below `model` into a native one, in place.

    Raises:
        ConfigError: this machine has no native code.
    """
    problem = native_norms_problem()
    if problem is not None:
        raise ConfigError(f"no native norms on this machine ({problem}); choose SET='norms=torch'")
    for module in model.modules():
        if type(module) is nn.BatchNorm2d and _is_usual(module):
            module.__class__ = NativeBatchNorm2d


def _is_usual(norm: nn.BatchNorm2d) -> bool:
    return norm.affine and norm.track_running_stats and norm.momentum is not None


def native_norms_problem() -> str | None:
    """Why there is no native code on this machine; None if there is."""
    return native_problem(SOURCE)
