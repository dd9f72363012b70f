"""Every variant here is an ordinary kernel W[out, in, k, k] written with other numbers.

A variant says which factors it keeps and how they compose to W; the convolution itself is the
library's. Folding first is what makes a small variant as fast as the standard one: the product
of the factors costs out·in·k² operations per step, the convolution that many per pixel.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.convs.registry import register_conv


class KernelConv2d(nn.Module):
    """A 2D convolution whose kernel is composed from factors by `weight()`.

    Args:
        in_channels, out_channels: channels of the input and output, NCHW.
        kernel_size, stride, padding: of the composed kernel; square, zero-padded.
        bias: whether a bias is added to the output.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.make_factors()
        self.reset_parameters()

    def make_factors(self) -> None:
        """Create the parameters of the kernel."""
        raise NotImplementedError

    def reset_factors(self) -> None:
        """Draw the factors so that W has the variance of PyTorch's default, 1 / (3 in k²)."""
        raise NotImplementedError

    def weight(self) -> Tensor:
        """The composed kernel, [out, in, k, k]; differentiable in the factors."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw all parameters anew from torch's global generator."""
        self.reset_factors()
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_channels * self.kernel_size**2)
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x [N, in, H, W] to [N, out, H', W']."""
        return F.conv2d(x, self.weight(), self.bias, self.stride, self.padding)

    def extra_repr(self) -> str:
        """The constructor's arguments, for printed models."""
        return (
            f"{self.in_channels}, {self.out_channels}, {self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, bias={self.bias is not None}"
        )


@register_conv("subkernel")
class Subkernel(KernelConv2d):
    """The standard convolution: the kernel is its own only factor; in·out·k² weights."""

    def make_factors(self) -> None:
        size = self.kernel_size
        self.kernel = nn.Parameter(torch.empty(self.out_channels, self.in_channels, size, size))

    def reset_factors(self) -> None:
        nn.init.kaiming_uniform_(self.kernel, a=math.sqrt(5))

    def weight(self) -> Tensor:
        return self.kernel


@register_conv("channel-selection")
class ChannelSelection(KernelConv2d):
    """A weighted sum over the input channels, then one k x k filter per output channel.

    W[o, i] = select[o, i] · depth[o]: rank one per output channel; in·out + out·k² weights.
    """

    def make_factors(self) -> None:
        size = self.kernel_size
        self.select = nn.Parameter(torch.empty(self.out_channels, self.in_channels))
        self.depth = nn.Parameter(torch.empty(self.out_channels, size, size))

    def reset_factors(self) -> None:
        nn.init.kaiming_uniform_(self.select, a=math.sqrt(5))
        # Var(select) = 1 / (3 in), so Var(depth) = 1 / k² gives the product the default variance.
        bound = math.sqrt(3) / self.kernel_size
        nn.init.uniform_(self.depth, -bound, bound)

    def weight(self) -> Tensor:
        return self.select[:, :, None, None] * self.depth[:, None]
