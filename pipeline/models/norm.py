"""Batch norm whose training statistics are plain sums: for compiled training, and for groups."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.models.native_norm import NativeBatchNorm2d


class SumBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with mean and variance from plain sums over the batch.

    Compiled for a CPU, the usual (Welford) statistics are one long chain of dependent operations;
    plain sums run at the speed of memory. They are of distances from a channel's first value: of
    the values themselves, those of a nearly constant channel would cancel to noise.

    Where several `processes` share a batch in equal parts, the statistics are those of the whole
    batch; torch's own SyncBatchNorm does that on GPUs only.
    """

    processes = 1

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [N, C, H, W]; without compilation this is slower than `nn.BatchNorm2d`."""
        if not self.training:
            return super().forward(x)
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps, self.processes)
        self._track(x, mean.detach(), variance.detach())
        return y  # type: ignore[no-any-return]

    def _track(self, x: Tensor, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        count = self.processes * (x.numel() // x.shape[1])
        momentum = self.momentum or 0.0
        with torch.no_grad():
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)


class SumBatchNormAct2d(SumBatchNorm2d):
    """The same of timm's batch norms, which hold a dropout and an activation."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """act(drop(norm(x))), all of shape [N, C, H, W]."""
        y: Tensor = self.act(self.drop(super().forward(x)))
        return y


class _Normalise(torch.autograd.Function):
    """Batch norm's forward and backward pass, each one reduction and one pointwise pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, processes: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.processes, ctx.count = processes, processes * (x.numel() // x.shape[1])
        mean, variance = _statistics(x)
        if processes > 1:
            own_mean, mean = mean, _total(processes, mean)[0] / processes
            variance = _total(processes, variance + (own_mean - mean).square())[0] / processes
        values = x.float()
        inverse = torch.rsqrt(variance + eps)
        scale = weight * inverse
        y = values * _per_channel(scale) + _per_channel(bias - mean * scale)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.mark_non_differentiable(mean, variance)
        return y.to(x.dtype), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, inverse = ctx.saved_tensors
        grad, centred = grads[0].float(), x.float() - _per_channel(mean)
        grad_bias = grad.sum((0, 2, 3))
        grad_weight = (grad * centred).sum((0, 2, 3)) * inverse
        # scale · (dy - mean(dy) - x_hat · mean(dy · x_hat)) as multiples of dy, of x, and of 1.
        total_weight, total_bias = _total(ctx.processes, grad_weight, grad_bias)
        scale = weight * inverse
        slope = -scale * inverse * total_weight / ctx.count
        constant = -scale * total_bias / ctx.count
        grad_x = grad * _per_channel(scale) + centred * _per_channel(slope) + _per_channel(constant)
        return grad_x.to(x.dtype), grad_weight, grad_bias, None, None


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of every channel of x [N, C, H, W], in fp32."""
    count = x.numel() // x.shape[1]
    first = x[0, :, 0, 0].float()
    distance = x.float() - _per_channel(first)
    mean = distance.sum((0, 2, 3)) / count
    variance = (distance.square().sum((0, 2, 3)) / count - mean.square()).clamp_min(0)
    return first + mean, variance


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


def _total(processes: int, *sums: Tensor) -> tuple[Tensor, ...]:
    """The sums of all processes that share the batch."""
    if processes == 1:
        return sums
    together = torch.stack(sums)
    dist.all_reduce(together)
    return together.unbind()


def use_sum_norms(model: nn.Module, processes: int = 1) -> None:
    """Turn every plain `nn.BatchNorm2d` below `model` into a `SumBatchNorm2d`, in place.

    `processes`, those of torch's default group, share each batch in equal parts; with them timm's
    that hold an activation change, too.
    """
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SumBatchNorm2d
        elif processes > 1 and holds_activation(module):
            module.__class__ = SumBatchNormAct2d
        if isinstance(module, SumBatchNorm2d):
            module.processes = processes


def holds_activation(module: nn.Module) -> bool:
    """Whether it is a batch norm of timm's, with a dropout and an activation behind it."""
    parts = dict(module.named_children())
    return isinstance(module, nn.BatchNorm2d) and parts.keys() == {"drop", "act"}


def norm_relu(norm: nn.Module, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """relu(norm(x) + residual), in one step where `norm` can do that."""
    if isinstance(norm, NativeBatchNorm2d):
        return norm.with_relu(x, residual)
    y = norm(x)
    return torch.relu(y if residual is None else y + residual)
