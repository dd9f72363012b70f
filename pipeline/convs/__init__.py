"""Convolutions as parametrisations of one kernel, and the ways to execute them."""

from pipeline.convs.auto import apply_executions, choose_executions
from pipeline.convs.chains import NormChain
from pipeline.convs.closest import closest_factors
from pipeline.convs.conv import KernelConv, executions_of, native_conv_problem, set_execution
from pipeline.convs.factors import Bottleneck, ChannelSelection, Separable, Subkernel
from pipeline.convs.registry import conv_names, make_conv, register_conv

__all__ = [
    "Bottleneck",
    "ChannelSelection",
    "KernelConv",
    "NormChain",
    "Separable",
    "Subkernel",
    "apply_executions",
    "choose_executions",
    "closest_factors",
    "conv_names",
    "executions_of",
    "make_conv",
    "native_conv_problem",
    "register_conv",
    "set_execution",
]
