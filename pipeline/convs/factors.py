"""The variants: each an ordinary kernel W[out, in, *k] written with fewer numbers.

A variant says which factors it keeps; composing them, and the ways to execute the product, are
written once for all. Folding first is what makes a small variant as fast as the standard one.
"""

from __future__ import annotations

from typing import ClassVar

from pipeline.convs.conv import KernelConv, parameter
from pipeline.convs.kernel import Factors


class Subkernel(KernelConv):
    """The standard convolution: the kernel is its own only factor; in·out·prod(k) weights."""

    variant = "subkernel"
    has_inner_convs = False

    def make_factors(self, inner_bias: bool) -> None:
        self.kernel = parameter(self.out_channels, self.in_channels, *self.kernel_size)

    def factors(self) -> Factors:
        return Factors(self.kernel, self.geometry, bias=self.bias)


class ChannelSelection(KernelConv):
    """A weighted sum over the input channels, then one filter per output channel.

    W[o, i] = select[o, i] · depth[o]: rank one per output channel; in·out + out·prod(k) weights.
    """

    variant = "channel-selection"

    def make_factors(self, inner_bias: bool) -> None:
        self.select = parameter(self.out_channels, self.in_channels)
        self.depth = parameter(self.out_channels, 1, *self.kernel_size)
        self.select_bias = parameter(self.out_channels) if inner_bias else None

    def factors(self) -> Factors:
        return Factors(
            self.depth,
            self.geometry,
            reduce=self.select,
            reduce_bias=self.select_bias,
            bias=self.bias,
            depthwise=True,
        )


class Separable(KernelConv):
    """One filter per input channel, then a weighted sum over the channels.

    W[o, i] = mix[o, i] · depth[i]: rank one per input channel; in·prod(k) + in·out weights.
    """

    variant = "separable"

    def make_factors(self, inner_bias: bool) -> None:
        self.depth = parameter(self.in_channels, 1, *self.kernel_size)
        self.mix = parameter(self.out_channels, self.in_channels)
        self.depth_bias = parameter(self.in_channels) if inner_bias else None

    def factors(self) -> Factors:
        return Factors(
            self.depth,
            self.geometry,
            expand=self.mix,
            core_bias=self.depth_bias,
            bias=self.bias,
            depthwise=True,
        )


class Bottleneck(KernelConv):
    """A kernel of out/N channels between two weighted sums: He et al. 2015 without its norms.

    W[o, i] = Σ expand[o, n] · core[n, m] · reduce[m, i], with n and m up to max(1, out // N).
    """

    variant = "bottleneck"
    divisor: ClassVar[int] = 4

    @classmethod
    def inner_channels(cls, out_channels: int) -> int:
        """Channels between the convolutions of the chain."""
        return max(1, out_channels // cls.divisor)

    def make_factors(self, inner_bias: bool) -> None:
        inner = self.inner_channels(self.out_channels)
        self.reduce = parameter(inner, self.in_channels)
        self.core = parameter(inner, inner, *self.kernel_size)
        self.expand = parameter(self.out_channels, inner)
        self.reduce_bias = parameter(inner) if inner_bias else None
        self.core_bias = parameter(inner) if inner_bias else None

    def factors(self) -> Factors:
        return Factors(
            self.core,
            self.geometry,
            self.reduce,
            self.expand,
            self.bias,
            self.reduce_bias,
            self.core_bias,
        )


class Bottleneck2(Bottleneck):
    """A bottleneck with half the output's channels inside."""

    divisor = 2
