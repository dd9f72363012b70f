"""Random convolutions for property tests."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from pipeline.convs import KernelConv, make_conv

LINEAR = (
    "subkernel",
    "channel-selection",
    "channel-selection-bias",
    "separable",
    "bottleneck",
    "bottleneck2",
)


def per_dimension(dimensions: int, least: int, most: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(least, most)] * dimensions)


@st.composite
def geometries(draw: st.DrawFn, dimensions: int) -> dict[str, Any]:
    """Kernel size, stride, padding and dilation; the kernel fits images of at least 7."""
    padding = draw(st.just("same") | per_dimension(dimensions, 0, 3))
    stride = (1,) * dimensions if padding == "same" else draw(per_dimension(dimensions, 1, 3))
    return {
        "kernel_size": draw(per_dimension(dimensions, 1, 4)),
        "stride": stride,
        "padding": padding,
        "dilation": draw(per_dimension(dimensions, 1, 2)),
    }


@st.composite
def convs_with_input(draw: st.DrawFn, names: tuple[str, ...] = LINEAR) -> tuple[KernelConv, Tensor]:
    """A float64 convolution and an input that needs a gradient."""
    dimensions = draw(st.sampled_from((2, 3)))
    name = draw(st.sampled_from(names))
    channels = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    torch.manual_seed(draw(st.integers(0, 99)))
    conv = make_conv(
        name,
        *channels,
        dimensions=dimensions,
        bias=draw(st.booleans()),
        inner_bias="where-possible" if draw(st.booleans()) else False,
        **draw(geometries(dimensions)),
    )
    shape = 2, channels[0], *draw(per_dimension(dimensions, 7, 9))
    return conv.double(), torch.randn(shape, dtype=torch.float64, requires_grad=True)
