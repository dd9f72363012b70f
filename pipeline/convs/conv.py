"""The convolution module whose kernel is a product of factors."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.convs.executions import EXECUTIONS, NATIVE, OFFERED
from pipeline.convs.geometry import PerDimension, make_geometry
from pipeline.convs.kernel import Factors
from pipeline.errors import ConfigError

InnerBias = bool | Literal["where-possible"]


class KernelConv(nn.Module):
    """A convolution whose kernel is a product of factors.

    Args:
        in_channels, out_channels: channels of the input [N, in, *spatial] and of the output.
        kernel_size, stride, padding, dilation: of the composed kernel, one number or one per
            dimension; zero padding, or "same" with stride 1.
        dimensions: 2 or 3.
        bias: whether a bias is added to the output.
        inner_bias: whether the convolutions inside the chain have biases too; "where-possible"
            asks for them only of a variant that has such convolutions.
        execution: one of `executions_of` this variant, or "auto".

    Raises:
        ConfigError: an argument that this variant cannot have.
    """

    variant: ClassVar[str]
    execution: str
    has_inner_convs: ClassVar[bool] = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerDimension,
        *,
        dimensions: int = 2,
        stride: PerDimension = 1,
        padding: PerDimension | str = 0,
        dilation: PerDimension = 1,
        bias: bool = False,
        inner_bias: InnerBias = False,
        execution: str = "auto",
    ) -> None:
        super().__init__()
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels < 1:
                raise ConfigError(f"{name}={channels!r}: choose a whole number from 1")
        if inner_bias not in (False, True, "where-possible"):
            raise ConfigError(f'inner_bias={inner_bias!r}: choose False, True or "where-possible"')
        if inner_bias is True and not self.has_inner_convs:
            raise ConfigError(f"inner_bias=True: {self.variant} has no inner conv; choose False")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.geometry = make_geometry(dimensions, kernel_size, stride, padding, dilation)
        self.kernel_size, self.stride, self.padding, self.dilation, _ = self.geometry
        self.dimensions = dimensions
        self.make_factors(bool(inner_bias))
        self.bias = parameter(out_channels) if bias else None
        self.reset_parameters()
        self.execution = "auto"
        set_execution(self, execution)

    def make_factors(self, inner_bias: bool) -> None:
        """Create the parameters of the kernel and, if wanted, those of the inner biases."""
        raise NotImplementedError

    def factors(self) -> Factors:
        """The parameters in their roles."""
        raise NotImplementedError

    def weight(self) -> Tensor:
        """The composed kernel, [out, in, *k]; differentiable in the factors."""
        return self.factors().compose()

    def reset_parameters(self) -> None:
        """Draw all parameters anew so that W has the variance of PyTorch's default.

        That is 1 / (3 · fan_in) for the first factor of the chain and 1 / fan_in for the others.
        """
        factors = self.factors()
        first, *others = factors.weights()
        nn.init.kaiming_uniform_(first, a=math.sqrt(5))
        for factor in others:
            nn.init.kaiming_uniform_(factor, nonlinearity="linear")
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        for bias in (factors.reduce_bias, factors.core_bias, factors.bias):
            if bias is not None:
                nn.init.uniform_(bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x [N, in, *spatial] to [N, out, *spatial']."""
        name = "folded" if self.execution == "auto" else self.execution
        return EXECUTIONS[name](x, self.factors())

    def extra_repr(self) -> str:
        """The constructor's arguments, for printed models."""
        inner = any(b is not None for b in (self.factors()[5:7]))
        return (
            f"{self.in_channels}, {self.out_channels}, {self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, bias={self.bias is not None}, "
            f"inner_bias={inner}, execution={self.execution}"
        )


def executions_of(conv: KernelConv) -> tuple[str, ...]:
    """The executions that a convolution offers on this machine."""
    return tuple(name for name in OFFERED[conv.variant] if native_conv_problem(name) is None)


def native_conv_problem(execution: str) -> str | None:
    """Why this machine lacks an execution; None if it has it, or if it is not native code."""
    return NATIVE[execution].problem() if execution in NATIVE else None


def set_execution(module: nn.Module, name: str) -> None:
    """Make every KernelConv in `module` execute as `name`, or "auto".

    Raises:
        ConfigError: one of them does not offer it; none is changed.
    """
    convs = [part for part in module.modules() if isinstance(part, KernelConv)]
    for conv in convs:
        choices = ("auto", *executions_of(conv))
        if name not in choices:
            problem = native_conv_problem(name)
            missing = f"is not possible here ({problem})" if problem else "does not exist"
            raise ConfigError(
                f"EXECUTION={name!r} {missing} for {conv.variant}; choose from {', '.join(choices)}"
            )
    for conv in convs:
        conv.execution = name


def parameter(*shape: int) -> nn.Parameter:
    """Not drawn yet: `reset_parameters` does."""
    return nn.Parameter(torch.empty(shape))
