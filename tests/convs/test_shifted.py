"""Shifted convolutions agree with the library's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.convs import shifted
from pipeline.convs.shifted import conv_shifted, conv_transpose_shifted
from tests.convs.cases import per_dimension

CONV = {2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {2: F.conv_transpose2d, 3: F.conv_transpose3d}


def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def assert_same(found: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected)
    weights = torch.linspace(-1, 2, found.numel(), dtype=found.dtype).view(found.shape)
    gradients = [torch.autograd.grad((y * weights).sum(), inputs) for y in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.fixture(params=["narrow rows", "wide rows"], autouse=True)
def row_width(request, monkeypatch):
    """The small shapes of these tests as they are, and treated as large ones."""
    if request.param == "wide rows":
        monkeypatch.setattr(shifted, "_NARROW_ROW", 0)


@st.composite
def geometries(draw: st.DrawFn) -> tuple[tuple[int, ...], ...]:
    """Kernel, stride, padding, dilation and image size."""
    dimensions = draw(st.sampled_from((2, 3)))
    ranges = (1, 3), (1, 3), (0, 2), (1, 2), (5, 7)
    return tuple(draw(per_dimension(dimensions, *bounds)) for bounds in ranges)


PROPERTY = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    # The fixture holds for all examples alike.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@PROPERTY
@given(geometry=geometries(), bias=st.booleans())
def test_conv_agrees_with_the_library_in_value_and_gradients(geometry, bias):
    kernel, stride, padding, dilation, size = geometry
    inputs = leaves((2, 3, *size), (4, 3, *kernel), (4,))[: 2 + bias]
    arguments = inputs if bias else [*inputs, None]

    found = conv_shifted(*arguments, stride, padding, dilation)

    expected = CONV[len(kernel)](*arguments, stride, padding, dilation)
    assert_same(found, expected, inputs)


@PROPERTY
@given(geometry=geometries(), bias=st.booleans(), data=st.data())
def test_transpose_agrees_with_the_library_in_value_and_gradients(geometry, bias, data):
    kernel, stride, padding, dilation, size = geometry
    extra = tuple(
        data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
    )
    inputs = leaves((2, 3, *size), (3, 4, *kernel), (4,))[: 2 + bias]
    arguments = inputs if bias else [*inputs, None]

    found = conv_transpose_shifted(*arguments, stride, padding, extra, dilation)

    library = CONV_TRANSPOSE[len(kernel)]
    assert_same(found, library(*arguments, stride, padding, extra, 1, dilation), inputs)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradcheck(stride):
    x, weight, bias = leaves((1, 2, 4, 5), (2, 2, 3, 2), (2,))
    one, steps = (1, 1), (stride, stride)

    assert torch.autograd.gradcheck(
        lambda x, w, b: conv_shifted(x, w, b, steps, one, one), (x, weight, bias)
    )
    assert torch.autograd.gradcheck(
        lambda x, w, b: conv_transpose_shifted(x, w, b, steps, one, (0, 0), one), (x, weight, bias)
    )


def test_any_memory_format_is_taken():
    x, weight = leaves((2, 3, 6, 5), (4, 3, 3, 3))
    last = x.detach().to(memory_format=torch.channels_last)

    found = conv_shifted(last, weight, None, (1, 1), (1, 1), (1, 1))

    torch.testing.assert_close(found, F.conv2d(x, weight, padding=1))
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(4, 7), (5, 3), (2, 1)])
def test_an_image_smaller_than_the_kernel_is_refused_as_by_the_library(size):
    x, weight = leaves((2, 3, *size), (4, 3, 3, 3))
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        F.conv2d(x, weight, dilation=2)

    with pytest.raises(ValueError, match=f"of {size[0]} x {size[1]} pixels.* is smaller than"):
        conv_shifted(x, weight, None, (1, 1), (0, 0), (2, 2))
