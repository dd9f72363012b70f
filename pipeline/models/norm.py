"""Batch norm whose training statistics are plain sums, for compiled training on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class SumBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with mean and variance from the sums of x and of x².

    Compiled for a CPU, the usual (Welford) statistics are one long chain of dependent operations;
    plain sums run at the speed of memory. In fp32 they lose precision only where a channel's mean
    is hundreds of deviations away from zero, which is not how convolution outputs look.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [N, C, H, W]; without compilation this is slower than `nn.BatchNorm2d`."""
        if not self.training:
            return super().forward(x)
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps)
        self._track(x, mean.detach(), variance.detach())
        return y  # type: ignore[no-any-return]

    def _track(self, x: Tensor, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        count = x.numel() // x.shape[1]
        momentum = self.momentum or 0.0
        with torch.no_grad():
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)


class _Normalise(torch.autograd.Function):
    """Batch norm's forward and backward pass, each one reduction and one pointwise pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        count = x.numel() // x.shape[1]
        values = x.float()
        mean = values.sum((0, 2, 3)) / count
        variance = (values.square().sum((0, 2, 3)) / count - mean.square()).clamp_min(0)
        inverse = torch.rsqrt(variance + eps)
        scale = weight * inverse
        y = values * _per_channel(scale) + _per_channel(bias - mean * scale)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.mark_non_differentiable(mean, variance)
        return y.to(x.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        grad, values = grads[0].float(), x.float()
        grad_bias = grad.sum((0, 2, 3))
        grad_weight = ((grad * values).sum((0, 2, 3)) - mean * grad_bias) * inverse
        # scale · (dy - mean(dy) - x_hat · mean(dy · x_hat)) as multiples of dy, of x, and of 1.
        scale = weight * inverse
        slope = -scale * inverse * grad_weight / count
        constant = -scale * grad_bias / count - slope * mean
        grad_x = grad * _per_channel(scale) + values * _per_channel(slope) + _per_channel(constant)
        return grad_x.to(x.dtype), grad_weight, grad_bias, None


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


def use_sum_norms(model: nn.Module) -> None:
    """Turn every plain `nn.BatchNorm2d` below `model` into a `SumBatchNorm2d`, in place."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SumBatchNorm2d
