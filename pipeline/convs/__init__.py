"""Convolutions as parametrisations of one kernel, and the ways to execute them."""

from pipeline.convs.factors import ChannelSelection, KernelConv2d, Subkernel
from pipeline.convs.registry import conv_names, make_conv, register_conv

__all__ = [
    "ChannelSelection",
    "KernelConv2d",
    "Subkernel",
    "conv_names",
    "make_conv",
    "register_conv",
]
