"""The gradients of a depthwise convolution are those of the library."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.convs.depthwise import input_gradient, weight_gradient
from pipeline.convs.geometry import CONVOLVE, make_geometry


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 7), min_size=2, max_size=3),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 4),
    dilation=st.integers(1, 3),
)
def test_both_gradients_agree_with_autograd(
    sizes: list[int], kernel: int, stride: int, padding: int, dilation: int
) -> None:
    if min(sizes) + 2 * padding <= dilation * (kernel - 1):
        return  # no output
    where = make_geometry(len(sizes), kernel, stride, padding, dilation)
    x = torch.randn(2, 3, *sizes, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, *where.kernel, dtype=torch.float64, requires_grad=True)
    y = CONVOLVE[len(sizes)](x, weight, None, where.stride, where.padding, where.dilation, 3)
    grad = torch.randn_like(y)

    expected = torch.autograd.grad(y, (x, weight), grad)

    own = (
        input_gradient(grad, x.shape, weight.detach(), where),
        weight_gradient(grad, x.detach(), weight.detach(), where),
    )
    torch.testing.assert_close(own, expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_channels_last_stays_channels_last(stride: int) -> None:
    """Else the steps ahead would copy the gradient."""
    where = make_geometry(2, 3, stride, 1)
    grad = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)

    gradient = input_gradient(grad, (2, 8, 4 * stride, 4 * stride), torch.randn(8, 1, 3, 3), where)

    assert gradient.is_contiguous(memory_format=torch.channels_last)
