"""Winograd's algorithm gives the convolution's values and gradients, as near as bf16 allows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.convs import KernelConv, executions_of, make_conv
from pipeline.convs.geometry import Geometry
from pipeline.convs.winograd import conv_winograd, winograd_fits, winograd_problem

# Inputs, transforms and outputs are rounded to bf16, each by up to 2^-9.
TOLERANCE = 0.01
UNIT = Geometry((3, 3), (1, 1), (1, 1), (1, 1), (0, 0))

needs_bf16 = pytest.mark.skipif(
    winograd_problem() is not None, reason=f"not on this machine: {winograd_problem()}"
)


def bf16_image(*shape: int) -> Tensor:
    return torch.randn(shape).bfloat16().to(memory_format=torch.channels_last).requires_grad_()


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def results(x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    y = conv_winograd(x, weight)
    return [y.detach(), *torch.autograd.grad(y, [x, weight], grad)]


@needs_bf16
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    images=st.integers(1, 5),
    channels=st.tuples(*[st.sampled_from([16, 32, 48, 64, 80, 128])] * 2),
    size=st.tuples(st.integers(1, 9), st.integers(1, 5)),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_value_and_both_gradients_are_the_convolutions(
    images: int, channels: tuple[int, int], size: tuple[int, int], threads: int, seed: int
) -> None:
    torch.manual_seed(seed)
    height, width = 2 * size[0], 4 * size[1]
    x = bf16_image(images, channels[0], height, width)
    weight = (torch.randn(channels[1], channels[0], 3, 3) / 20).requires_grad_()
    grad = bf16_image(images, channels[1], height, width).detach()
    exact_x, exact_weight = (t.detach().double().requires_grad_() for t in (x, weight))
    y = F.conv2d(exact_x, exact_weight, padding=1)
    expected = [y.detach(), *torch.autograd.grad(y, [exact_x, exact_weight], grad.double())]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = results(x, weight, grad)
        again = results(x, weight, grad)
    finally:
        torch.set_num_threads(before)

    for ours, truth in zip(found, expected, strict=True):
        assert error(ours, truth) < TOLERANCE
    assert all(torch.equal(first, second) for first, second in zip(found, again, strict=True))


@needs_bf16
@pytest.mark.parametrize("name", ["subkernel", "channel-selection", "separable", "bottleneck"])
def test_every_variant_trains_by_it_as_folded(name: str) -> None:
    torch.manual_seed(0)
    conv = make_conv(name, 32, 48, 3, padding=1, bias=True, inner_bias="where-possible")
    assert isinstance(conv, KernelConv)
    x = bf16_image(3, 32, 8, 12)
    grad = bf16_image(3, 48, 8, 12).detach()
    found = {}
    for execution in ("folded", "winograd"):
        conv.execution = execution
        with torch.autocast("cpu", torch.bfloat16):
            y = conv(x)
        found[execution] = [y.detach(), *torch.autograd.grad(y, [x, *conv.parameters()], grad)]

    assert "winograd" in executions_of(conv)
    assert not torch.equal(found["folded"][0], found["winograd"][0])
    for ours, theirs in zip(found["winograd"], found["folded"], strict=True):
        assert ours.dtype == theirs.dtype
        assert error(ours, theirs.double()) < 2 * TOLERANCE


@needs_bf16
def test_a_frozen_kernel_and_an_input_without_gradient_are_allowed() -> None:
    x, weight = bf16_image(2, 16, 4, 4), torch.randn(16, 16, 3, 3, requires_grad=True)

    conv_winograd(x, weight.detach()).float().sum().backward()
    conv_winograd(x.detach(), weight).float().sum().backward()

    assert x.grad is not None
    assert weight.grad is not None


@needs_bf16
@pytest.mark.parametrize(
    ("shape", "geometry", "out", "dtype"),
    [
        ((2, 32, 4, 6), UNIT, 32, torch.bfloat16),
        ((2, 32, 5, 8), UNIT, 32, torch.bfloat16),
        ((2, 40, 4, 8), UNIT, 32, torch.bfloat16),
        ((2, 32, 4, 8), UNIT, 40, torch.bfloat16),
        ((2, 16, 4, 8), UNIT, 32, torch.bfloat16),
        ((0, 32, 4, 8), UNIT, 32, torch.bfloat16),
        ((2, 32, 4, 8), UNIT, 32, torch.float32),
        ((2, 32, 4, 8), UNIT._replace(stride=(2, 2)), 32, torch.bfloat16),
        ((2, 32, 4, 8), UNIT._replace(kernel=(1, 1), padding=(0, 0)), 32, torch.bfloat16),
    ],
)
def test_what_does_not_fit_is_folded(
    shape: tuple[int, ...], geometry: Geometry, out: int, dtype: torch.dtype
) -> None:
    kernel, stride, padding, *_ = geometry
    x = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)
    conv = make_conv("subkernel", shape[1], out, kernel, stride=stride, padding=padding).to(dtype)
    conv.execution = "winograd"

    assert winograd_fits(bf16_image(2, 32, 4, 8), UNIT, 32, torch.bfloat16)
    assert not winograd_fits(x, geometry, out, dtype)
    assert torch.equal(conv(x), geometry.convolve(x, conv.weight(), None))


@needs_bf16
def test_a_contiguous_image_keeps_its_layout() -> None:
    conv = make_conv("subkernel", 32, 32, 3, padding=1, execution="winograd").bfloat16()

    assert conv(torch.randn(2, 32, 8, 8).bfloat16()).is_contiguous()


@needs_bf16
def test_compiled_it_is_folded() -> None:
    conv = make_conv("subkernel", 32, 32, 3, padding=1, execution="winograd").bfloat16()
    x = bf16_image(2, 32, 4, 8)

    y = torch.compile(conv, fullgraph=True)(x)

    assert torch.equal(y, F.conv2d(x, conv.weight(), padding=1))
