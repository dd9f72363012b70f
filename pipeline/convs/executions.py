"""The ways to compute a convolution from its factors: equal numbers, unequal costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.convs.depthwise import input_gradient, weight_gradient
from pipeline.convs.direct import DIRECT
from pipeline.convs.geometry import Geometry, Place, compute_dtype
from pipeline.convs.kernel import Factors, Step
from pipeline.convs.native_conv import NativeConv
from pipeline.convs.shifted import conv_shifted
from pipeline.convs.winograd import WINOGRAD

Execution = Callable[[Tensor, Factors], Tensor]
Border = list[tuple[Place, Tensor]]


def folded(x: Tensor, factors: Factors) -> Tensor:
    """Compose the kernel, then one library convolution; gradients pass through the product.

    Composing costs out·in·prod(k) per step and factor, the convolution that much per pixel.
    """
    weight, bias, border = _composed(x, factors)
    y = factors.geometry.convolve(x, weight, bias)
    return _add_at(y, border)


def factored(x: Tensor, factors: Factors) -> Tensor:
    """The chain of small convolutions; keeps every inner tensor for backward."""
    for step in factors.chain():
        x = step(x)
    return x


def recomputed(x: Tensor, factors: Factors) -> Tensor:
    """The same chain keeping only its input: backward computes the inner tensors again.

    Unlike a checkpoint it does not repeat the last step, whose output backward does not need.
    """
    dtype = compute_dtype(x)
    steps = factors.chain()
    tensors = [t if t is None else t.to(dtype) for step in steps for t in step[:2]]
    plans = [step[2:] for step in steps]
    y: Tensor = _Recomputed.apply(plans, x.to(dtype), *tensors)
    return y


def linear(x: Tensor, factors: Factors) -> Tensor:
    """Select channels by a linear layer on [N, *spatial, C], then depthwise: as published."""
    assert factors.reduce is not None
    selected = F.linear(x.movedim(1, -1), factors.reduce, factors.reduce_bias).movedim(-1, 1)
    return factors.chain()[1](selected)


def shifted(x: Tensor, factors: Factors) -> Tensor:
    """Matrix products on shifted slices with the composed kernel."""
    weight, bias, border = _composed(x, factors)
    _, stride, padding, dilation, _ = factors.geometry
    y = conv_shifted(factors.geometry.pad_end(x), weight, bias, stride, padding, dilation)
    return _add_at(y, border)


def winograd(x: Tensor, factors: Factors) -> Tensor:
    """Winograd's algorithm with the composed kernel; folded where it does not fit, or compiled."""
    return _natively(WINOGRAD, x, factors)


def direct(x: Tensor, factors: Factors) -> Tensor:
    """Native plain sums with the composed kernel; folded where they do not fit, or compiled."""
    return _natively(DIRECT, x, factors)


def _natively(algorithm: NativeConv, x: Tensor, factors: Factors) -> Tensor:
    dtype, out_channels = compute_dtype(x), factors.weights()[-1].shape[0]
    if torch.compiler.is_compiling() or not algorithm.fits(
        x, factors.geometry, out_channels, dtype
    ):
        return folded(x, factors)
    weight, bias, border = _composed(x, factors, torch.float32)
    y = algorithm(x.to(dtype), weight, factors.geometry)
    if bias is not None:
        y = y + bias.to(dtype)[:, None, None]
    return _add_at(y, border)


def _composed(
    x: Tensor, factors: Factors, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor | None, Border]:
    """The kernel, in `dtype` or as the library takes it, and biases for x, composed in the factors'
    own precision.

    Under autocast the products would be rounded once per factor: twice the error that the
    library's convolution of a standard kernel has, and with few channels not even faster.
    """
    if factors.reduce is None and factors.expand is None:
        return factors.core, factors.bias, []
    with torch.autocast(x.device.type, enabled=False):
        weight, bias = factors.compose(), factors.compose_bias()
        border = factors.border(x.shape[2:])
    # One copy for dtype and layout; autocast and the library would make one each.
    layout = factors.geometry.memory_format(x)
    weight = weight.to(dtype or compute_dtype(x), memory_format=layout)
    return weight, bias, border


def _add_at(y: Tensor, border: Border) -> Tensor:
    if border:
        places, shares = zip(*border, strict=True)
        y = _AddAt.apply(places, y, *shares)
    return y


class _AddAt(torch.autograd.Function):
    """Add to slices in place; autograd's own in-place slices copy the gradient for each."""

    @staticmethod
    def forward(ctx: Any, places: Sequence[Place], y: Tensor, *shares: Tensor) -> Tensor:
        ctx.places, ctx.shapes = places, [share.shape for share in shares]
        ctx.mark_dirty(y)
        for place, share in zip(places, shares, strict=True):
            y[:, :, *place] += share.to(y.dtype)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        parts = zip(ctx.places, ctx.shapes, strict=True)
        return None, grad, *(grad[:, :, *place].sum_to_size(shape) for place, shape in parts)


Plan = tuple[Geometry, int]


class _Recomputed(torch.autograd.Function):
    """A chain of convolutions; `tensors` are each step's weight and bias in turn."""

    @staticmethod
    def forward(ctx: Any, plans: list[Plan], x: Tensor, *tensors: Tensor | None) -> Tensor:
        ctx.plans = plans
        ctx.save_for_backward(x, *tensors)
        for step in _steps(plans, tensors):
            x = step(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, *tensors = ctx.saved_tensors
        steps = _steps(ctx.plans, tensors)
        inputs = [x]
        for step in steps[:-1]:
            inputs.append(step(inputs[-1]))
        grads: list[Tensor | None] = []
        for step in reversed(steps):
            needs_input = len(inputs) > 1 or ctx.needs_input_grad[1]
            grad, *own = _step_backward(step, inputs.pop(), grad, needs_input)
            grads = [*own, *grads]
        return None, grad, *grads


def _steps(plans: list[Plan], tensors: Sequence[Tensor | None]) -> list[Step]:
    pairs = zip(tensors[::2], tensors[1::2], plans, strict=True)
    return [Step(weight, bias, *plan) for weight, bias, plan in pairs if weight is not None]


def _step_backward(step: Step, x: Tensor, grad: Tensor, needs_input: bool) -> list[Any]:
    """Gradients of a step's input (if needed, else None), weight and bias (None without)."""
    where, x = step.geometry, step.geometry.pad_end(x)
    if step.is_depthwise and grad.device.type == "cpu":
        grad_input = input_gradient(grad, x.shape, step.weight, where) if needs_input else None
        own = [
            weight_gradient(grad, x, step.weight, where),
            None if step.bias is None else grad.sum(tuple(d for d in range(grad.ndim) if d != 1)),
        ]
        return [None if grad_input is None else where.pad_end(grad_input, -1), *own]
    grad_input, *own = torch.ops.aten.convolution_backward(
        grad,
        x,
        step.weight,
        [len(step.weight)],
        where.stride,
        where.padding,
        where.dilation,
        False,
        [0] * where.dimensions,
        step.groups,
        [needs_input, True, step.bias is not None],
    )
    return [where.pad_end(grad_input, -1) if needs_input else None, *own]


EXECUTIONS: dict[str, Execution] = {
    "folded": folded,
    "factored": factored,
    "recomputed": recomputed,
    "linear": linear,
    "shifted": shifted,
    "winograd": winograd,
    "direct": direct,
}
# Those that not every machine has.
NATIVE = {"winograd": WINOGRAD, "direct": DIRECT}
# Which variant offers which; `auto` stands for folded until choose_executions decides.
OFFERED = {
    "subkernel": ("folded", "shifted", *NATIVE),
    "channel-selection": ("folded", "factored", "recomputed", "linear", "shifted", *NATIVE),
    "separable": ("folded", "factored", "recomputed", "shifted", *NATIVE),
    "bottleneck": ("folded", "factored", "recomputed", "shifted", *NATIVE),
}
