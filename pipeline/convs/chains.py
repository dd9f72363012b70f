"""Chains of convolutions with batch norm in between: not linear in training, so not folded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from pipeline.convs.conv import InnerBias, KernelConv
from pipeline.convs.geometry import PerDimension
from pipeline.convs.kernel import Step

_CONVS: dict[int, Callable[..., nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORMS: dict[int, Callable[[int], nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class NormChain(nn.Sequential):
    """The chain of a variant as plain convolutions, with a batch norm after every inner one.

    The norm after the last convolution is the caller's, as after any other.

    Args:
        variant: whose chain; the other arguments are those of `KernelConv`.
        inner_bias: None gives the inner convolutions a bias if the last one has it.
    """

    def __init__(
        self,
        variant: type[KernelConv],
        in_channels: int,
        out_channels: int,
        kernel_size: PerDimension,
        *,
        dimensions: int = 2,
        stride: PerDimension = 1,
        padding: PerDimension | str = 0,
        dilation: PerDimension = 1,
        bias: bool = False,
        inner_bias: InnerBias | None = None,
    ) -> None:
        linear = variant(
            in_channels,
            out_channels,
            kernel_size,
            dimensions=dimensions,
            stride=stride,
            padding=padding,
            dilation=dilation,
            bias=bias,
            inner_bias=bias if inner_bias is None else inner_bias,
        )
        layers: list[nn.Module] = []
        *inner, last = (plain_layer(step) for step in linear.factors().chain())
        for layer in inner:
            layers += [layer, _NORMS[dimensions](layer.out_channels)]
        super().__init__(*layers, last)


def plain_layer(step: Step) -> nn.Conv2d | nn.Conv3d:
    """The library's layer that computes a step, with a copy of its numbers."""
    geometry = step.geometry
    with torch.device("meta"):  # draws no numbers only to replace them
        layer = _CONVS[geometry.dimensions](
            step.weight.shape[1] * step.groups,
            step.weight.shape[0],
            geometry.kernel,
            geometry.stride,
            "same" if any(geometry.extra) else geometry.padding,
            geometry.dilation,
            step.groups,
            bias=step.bias is not None,
        )
    layer.weight = nn.Parameter(step.weight.detach().clone())
    layer.bias = None if step.bias is None else nn.Parameter(step.bias.detach().clone())
    return layer
