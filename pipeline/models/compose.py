"""Parametrised convolutions written as the library's plain ones, for inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from pipeline.convs import KernelConv, NormChain
from pipeline.convs.chains import plain_layer
from pipeline.convs.geometry import make_geometry
from pipeline.convs.kernel import Factors, Step


class AppendOnes(nn.Module):
    """One more input channel, of ones."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, *spatial] to [N, C + 1, *spatial]."""
        return torch.cat([x, torch.ones_like(x[:, :1])], 1)


def compose_kernels(model: nn.Module) -> nn.Module:
    """`model`, in place, with a plain convolution for every parametrised one.

    Chains with norms are composed as they are in eval mode. Returns the model, or what replaces
    it if it is such a convolution itself.
    """
    if isinstance(model, KernelConv):
        return compose_factors(model.factors())
    if isinstance(model, NormChain):
        return _compose_chain(model.eval())
    for name, child in list(model._modules.items()):  # `named_children` names a shared one once
        if child is not None:
            setattr(model, name, compose_kernels(child))
    return model


def compose_factors(factors: Factors) -> nn.Module:
    """The convolution of the factors as one `nn.Conv2d` or `nn.Conv3d`, biases included.

    A bias ahead of zero padding is missing at the border. It is exact as one more input channel
    of ones, which is padded too; without padding it is part of the ordinary bias.
    """
    weight, geometry = factors.compose().contiguous(), factors.geometry
    if factors.reduce_bias is None or not any(geometry.padding + geometry.extra):
        return plain_layer(Step(weight, factors.compose_bias(), geometry))
    plane = factors._replace(reduce=factors.reduce_bias[:, None]).compose()
    bias = factors._replace(reduce_bias=None).compose_bias()
    step = Step(torch.cat([weight, plane], 1), bias, geometry)
    return nn.Sequential(AppendOnes(), plain_layer(step))


def _compose_chain(chain: NormChain) -> nn.Module:
    """Each norm folded into the convolution ahead of it, then the chain into one kernel.

    A chain that does not end with a weighted sum of channels stays a chain, without norms.
    """
    layers: list[Any] = list(chain)
    *inner, last = layers[::2]
    convs = [fuse_conv_bn_eval(conv, norm) for conv, norm in zip(inner, layers[1::2], strict=True)]
    if last.groups > 1 or any(size > 1 for size in last.kernel_size):
        return nn.Sequential(*convs, last)
    *first, core = convs
    geometry = make_geometry(
        len(core.kernel_size), core.kernel_size, core.stride, core.padding, core.dilation
    )
    return compose_factors(
        Factors(
            core.weight,
            geometry,
            reduce=first[0].weight.flatten(1) if first else None,
            expand=last.weight.flatten(1),
            bias=last.bias,
            reduce_bias=first[0].bias if first else None,
            core_bias=core.bias,
            depthwise=not first,
        )
    )
