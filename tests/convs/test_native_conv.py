"""Native code gives the convolution's values and gradients, as near as bf16 allows."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.convs import KernelConv, executions_of, make_conv, native_conv_problem, set_execution
from pipeline.convs.direct import DIRECT
from pipeline.convs.executions import NATIVE
from pipeline.convs.geometry import Geometry
from pipeline.convs.native_conv import NativeConv
from pipeline.convs.winograd import WINOGRAD
from pipeline.errors import ConfigError
from pipeline.native import native_library

# Inputs, transforms and outputs are rounded to bf16, each by up to 2^-9.
TOLERANCE = {WINOGRAD: 0.015, DIRECT: 0.005}
UNIT = Geometry((3, 3), (1, 1), (1, 1), (1, 1), (0, 0))
BF16 = torch.bfloat16

needs_bf16 = pytest.mark.skipif(
    WINOGRAD.problem() is not None, reason=f"not on this machine: {WINOGRAD.problem()}"
)
each = pytest.mark.parametrize("name", NATIVE)


def square(kernel: int, stride: int, padding: int) -> Geometry:
    return Geometry(*[(number,) * 2 for number in (kernel, stride, padding, 1, 0)])


def bf16_image(*shape: int) -> Tensor:
    return torch.randn(shape).to(BF16).to(memory_format=torch.channels_last).requires_grad_()


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def check_against_exact(
    algorithm: NativeConv, x: Tensor, out: int, geometry: Geometry, threads: int
) -> None:
    assert algorithm.fits(x, geometry, out, BF16)
    weight = torch.randn(out, x.shape[1], *geometry.kernel).to(BF16).float().requires_grad_()
    exact = [t.detach().double().requires_grad_() for t in (x, weight)]
    truth = geometry.convolve(*exact, None)
    grad = torch.randn(truth.shape).to(BF16)
    expected = [truth.detach(), *torch.autograd.grad(truth, exact, grad.double())]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, again = (results(algorithm, x, weight, grad, geometry) for _ in range(2))
    finally:
        torch.set_num_threads(before)

    for ours, theirs in zip(found, expected, strict=True):
        assert error(ours, theirs) < TOLERANCE[algorithm]
    assert all(torch.equal(first, second) for first, second in zip(found, again, strict=True))


def results(
    algorithm: NativeConv, x: Tensor, weight: Tensor, grad: Tensor, geometry: Geometry
) -> list[Tensor]:
    y = algorithm(x, weight, geometry)
    return [y.detach(), *torch.autograd.grad(y, [x, weight], grad)]


@needs_bf16
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    images=st.integers(1, 5),
    channels=st.tuples(*[st.sampled_from([16, 32, 48, 64, 80, 128])] * 2),
    size=st.tuples(st.integers(1, 18), st.integers(1, 20)),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_winograd_gives_value_and_both_gradients(
    images: int, channels: tuple[int, int], size: tuple[int, int], threads: int, seed: int
) -> None:
    torch.manual_seed(seed)
    x = bf16_image(images, channels[0], *size)

    check_against_exact(WINOGRAD, x, channels[1], UNIT, threads)


@needs_bf16
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    images=st.integers(1, 9),
    channels=st.tuples(*[st.sampled_from([16, 32, 48, 64, 80, 128])] * 2),
    size=st.tuples(st.integers(5, 40), st.integers(5, 40)),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 2),
    padding=st.integers(0, 3),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_plain_sums_give_value_and_both_gradients(
    images: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    kernel: int,
    stride: int,
    padding: int,
    threads: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    x = bf16_image(images, channels[0], *size)

    check_against_exact(DIRECT, x, channels[1], square(kernel, stride, padding), threads)


@needs_bf16
def test_plain_sums_of_a_large_image_are_computed_block_by_block() -> None:
    torch.manual_seed(0)

    check_against_exact(DIRECT, bf16_image(2, 64, 120, 70), 32, square(3, 2, 1), 2)


@needs_bf16
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_what_is_no_number_reaches_the_plain_sums_that_hold_it(
    kernel: int, stride: int, padding: int
) -> None:
    """Pixels are summed in pairs, of which the last may be half of one."""
    geometry = square(kernel, stride, padding)
    x, weight = torch.randn(2, 16, 7, 7), torch.randn(16, 16, kernel, kernel)
    x[0, 3, 2, 6] = torch.inf
    x = x.to(BF16).to(memory_format=torch.channels_last)
    grad = torch.randn(2, 16, *geometry.outputs((7, 7))).to(BF16)
    found, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    kernels = weight.clone().requires_grad_(), weight.double().requires_grad_()
    truth = geometry.convolve(exact, kernels[1], None)
    expected = [truth, *torch.autograd.grad(truth, [exact, kernels[1]], grad.double())]

    for ours, theirs in zip(
        results(DIRECT, found, kernels[0], grad, geometry), expected, strict=True
    ):
        assert torch.equal(ours.isfinite(), theirs.isfinite())


@needs_bf16
@each
@pytest.mark.parametrize("variant", ["subkernel", "channel-selection", "separable", "bottleneck"])
def test_every_variant_trains_natively_as_folded(name: str, variant: str) -> None:
    torch.manual_seed(0)
    conv = make_conv(variant, 32, 48, 3, padding=1, bias=True, inner_bias="where-possible")
    assert isinstance(conv, KernelConv)
    x = bf16_image(3, 32, 8, 12)
    grad = bf16_image(3, 48, 8, 12).detach()
    found = {}
    for execution in ("folded", name):
        conv.execution = execution
        with torch.autocast("cpu", BF16):
            y = conv(x)
        found[execution] = [y.detach(), *torch.autograd.grad(y, [x, *conv.parameters()], grad)]

    assert name in executions_of(conv)
    assert any(not torch.equal(*pair) for pair in zip(*found.values(), strict=True))
    for ours, theirs in zip(found[name], found["folded"], strict=True):
        assert ours.dtype == theirs.dtype
        assert error(ours, theirs.double()) < 0.02


@needs_bf16
@pytest.mark.parametrize("algorithm", NATIVE.values())
def test_a_frozen_kernel_and_an_input_without_gradient_are_allowed(algorithm: NativeConv) -> None:
    x, weight = bf16_image(2, 32, 4, 4), torch.randn(32, 32, 3, 3, requires_grad=True)

    algorithm(x, weight.detach(), UNIT).float().sum().backward()
    algorithm(x.detach(), weight, UNIT).float().sum().backward()

    assert x.grad is not None
    assert weight.grad is not None


@needs_bf16
@pytest.mark.parametrize(
    ("shape", "geometry", "out", "dtype"),
    [
        ((2, 40, 4, 8), UNIT, 32, BF16),
        ((2, 32, 4, 8), UNIT, 40, BF16),
        ((0, 32, 4, 8), UNIT, 32, BF16),
        ((2, 32, 4, 8), UNIT, 32, torch.float32),
        ((2, 32, 4, 8), square(3, 2, 1), 32, BF16),
        ((2, 32, 4, 8), square(1, 1, 0), 32, BF16),
    ],
)
def test_what_does_not_fit_winograd_is_folded(
    shape: tuple[int, ...], geometry: Geometry, out: int, dtype: torch.dtype
) -> None:
    assert WINOGRAD.fits(bf16_image(2, 32, 4, 8), UNIT, 32, BF16)

    check_folded("winograd", shape, geometry, out, dtype)


@needs_bf16
@pytest.mark.parametrize(
    ("shape", "geometry", "out", "dtype"),
    [
        ((2, 24, 4, 8), UNIT, 16, BF16),
        ((2, 16, 4, 8), UNIT, 24, BF16),
        ((0, 16, 4, 8), UNIT, 16, BF16),
        ((2, 16, 4, 8), UNIT, 16, torch.float32),
        ((2, 16, 7, 8), square(3, 3, 1), 16, BF16),
        ((2, 16, 7, 8), UNIT._replace(stride=(1, 2)), 16, BF16),
        ((2, 16, 7, 8), UNIT._replace(dilation=(2, 2)), 16, BF16),
        ((2, 16, 7, 8), UNIT._replace(kernel=(1, 3), padding=(0, 1)), 16, BF16),
        ((2, 16, 4, 6, 8), Geometry(*[(number,) * 3 for number in (3, 1, 1, 1, 0)]), 16, BF16),
    ],
)
def test_what_does_not_fit_plain_sums_is_folded(
    shape: tuple[int, ...], geometry: Geometry, out: int, dtype: torch.dtype
) -> None:
    assert DIRECT.fits(bf16_image(2, 16, 4, 8), UNIT, 16, BF16)

    check_folded("direct", shape, geometry, out, dtype)


def check_folded(
    name: str, shape: tuple[int, ...], geometry: Geometry, out: int, dtype: torch.dtype
) -> None:
    x = torch.randn(shape).to(dtype)
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    kernel, stride, padding, dilation, _ = geometry
    conv = make_conv(
        "subkernel",
        *(shape[1], out, kernel),
        stride=stride,
        padding=padding,
        dilation=dilation,
        dimensions=x.ndim - 2,
        execution=name,
    ).to(dtype)

    assert not NATIVE[name].fits(x, geometry, out, dtype)
    assert torch.equal(conv(x), geometry.convolve(x, conv.weight(), None))


@needs_bf16
@each
def test_a_contiguous_image_keeps_its_layout(name: str) -> None:
    conv = make_conv("subkernel", 32, 32, 3, padding=1, execution=name).bfloat16()

    assert conv(torch.randn(2, 32, 8, 8).bfloat16()).is_contiguous()


@needs_bf16
@each
@pytest.mark.parametrize("shape", [(2, 32, 0, 8), (2, 32, 4, 0)])
def test_an_image_without_pixels_is_refused_as_by_the_library(
    name: str, shape: tuple[int, ...]
) -> None:
    for padding in (1, 2):
        conv = make_conv("subkernel", 32, 32, 3, padding=padding, execution=name).bfloat16()
        with pytest.raises(RuntimeError, match=r"input size|inputs are supported"):
            conv(bf16_image(*shape))


@needs_bf16
@each
@pytest.mark.parametrize("variant", ["subkernel", "channel-selection", "separable", "bottleneck"])
def test_an_image_of_other_channels_is_refused(name: str, variant: str) -> None:
    conv = make_conv(variant, 64, 32, 3, padding=1, execution=name).bfloat16()

    with pytest.raises(ValueError, match="an image of 32 channels: the kernel takes 64"):
        conv(bf16_image(2, 32, 4, 8))


@needs_bf16
@each
def test_compiled_it_is_folded(name: str) -> None:
    conv = make_conv("subkernel", 32, 32, 3, padding=1, execution=name).bfloat16()
    x = bf16_image(2, 32, 4, 8)

    y = torch.compile(conv, fullgraph=True)(x)

    assert torch.equal(y, F.conv2d(x, conv.weight(), padding=1))


def test_where_there_is_none_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = make_conv("subkernel", 32, 32, 3)
    monkeypatch.setattr("pipeline.convs.native_conv._NEEDED", "a feature of tomorrow")

    assert native_conv_problem("direct") == "the processor does not report a feature of tomorrow"
    assert executions_of(conv) == ("folded", "shifted")
    with pytest.raises(ConfigError, match=r"not possible here \(the processor does not report"):
        set_execution(conv, "winograd")


@needs_bf16
@pytest.mark.skipif(shutil.which("objdump") is None, reason="nothing here shows machine code")
@pytest.mark.parametrize("algorithm", [WINOGRAD, DIRECT])
def test_sums_stay_in_registers_while_products_are_added(algorithm: NativeConv) -> None:
    library = native_library(algorithm.source)._name
    shown = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", library], check=True, capture_output=True, text=True
    ).stdout
    functions = [text for text in shown.split("\n\n") if "vdpbf16ps" in text]
    assert functions
    for function in functions:
        first, last = function.index("vdpbf16ps"), function.rindex("vdpbf16ps")
        assert not re.search(r"vmov\w+ +%zmm\d+,.*\(", function[first:last])
