"""Native batch norm computes what the library's layers do, one after the other."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.models import make_model
from pipeline.models.native_norm import NativeBatchNorm2d, native_norms_problem, use_native_norms
from pipeline.models.norm import norm_relu

pytestmark = pytest.mark.skipif(
    native_norms_problem() is not None, reason=f"no native code here: {native_norms_problem()}"
)
LAST_BITS = {torch.float32: 1e-5, torch.bfloat16: 5e-3}


def native_and_exact(channels: int) -> tuple[NativeBatchNorm2d, nn.BatchNorm2d]:
    """The same norm twice: native, and the library's in fp64."""
    exact = nn.BatchNorm2d(channels)
    nn.init.uniform_(exact.weight, 0.5, 2)
    nn.init.normal_(exact.bias)
    holder = nn.Sequential(copy.deepcopy(exact))
    use_native_norms(holder)
    native = holder[0]
    assert isinstance(native, NativeBatchNorm2d)
    return native, exact.double()


def in_whole_rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """So many more columns that the numbers fill rows of 32 with whole pixels."""
    count, channels, height, width = shape
    return count, channels, height, width * (math.lcm(channels, 32) // channels)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).detach().norm()) / (
        float(expected.double().detach().norm()) + 1e-9
    )


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(
        st.integers(2, 9),
        st.sampled_from([1, 3, 8, 16, 24, 64, 100, 256]),
        *[st.integers(1, 9)] * 2,
    ).map(in_whole_rows),
    dtype=st.sampled_from(list(LAST_BITS)),
    relu=st.booleans(),
    residual=st.booleans(),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_values_gradients_and_statistics_are_the_librarys(
    shape: tuple[int, ...], dtype: torch.dtype, relu: bool, residual: bool, threads: int, seed: int
) -> None:
    torch.manual_seed(seed)
    native, exact = native_and_exact(shape[1])
    x, other, grad = (torch.randn(shape).mul(3).add(1).to(dtype) for _ in range(3))
    own, theirs = (
        [t.clone().to(kind).requires_grad_() for t in (x, other)] for kind in (dtype, torch.double)
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = native.with_relu(own[0], own[1] if residual else None) if relu else native(own[0])
        y.backward(grad)
    finally:
        torch.set_num_threads(before)
    z = exact(theirs[0])
    z = z + theirs[1] if relu and residual else z
    # Which side of the ReLU a rounded value lies on is the native code's to say.
    z.backward(grad.double() * (y.detach() > 0) if relu else grad.double())

    tolerance = LAST_BITS[dtype]
    assert error(y, z.relu() if relu else z) < tolerance
    few = x.numel() // shape[1] < 4  # so few that the gradient of x cancels to rounding
    assert few or error(own[0].grad, theirs[0].grad) < 2 * tolerance
    assert not (relu and residual) or error(own[1].grad, theirs[1].grad) < tolerance
    assert error(native.bias.grad, exact.bias.grad) < tolerance
    assert few or error(native.weight.grad, exact.weight.grad) < 2 * tolerance
    for name in ("running_mean", "running_var"):
        assert error(getattr(native, name), getattr(exact, name)) < 1e-5
    assert int(native.num_batches_tracked or 0) == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("channels", [16, 100])  # with one row of numbers and with several
@pytest.mark.parametrize("dtype", list(LAST_BITS))
def test_what_is_no_number_spreads_as_in_the_library(
    dtype: torch.dtype, channels: int, bad: float
) -> None:
    native, exact = native_and_exact(channels)
    x = torch.randn(4, channels, 8, 8).to(dtype)
    x[1, 0, 2, 3] = bad
    own, theirs = x.clone().requires_grad_(), x.double().requires_grad_()

    y, z = native.with_relu(own), exact(theirs).relu()
    y.sum().backward()
    z.sum().backward()

    assert y[:, 0].isnan().all()
    assert torch.equal(y.isnan(), z.isnan())
    for name in ("running_mean", "running_var"):
        assert torch.equal(getattr(native, name).isnan(), getattr(exact, name).isnan())
    for ours, exacts in ((own, theirs), *zip(native.parameters(), exact.parameters(), strict=True)):
        assert ours.grad is not None
        assert exacts.grad is not None
        assert torch.equal(ours.grad.isnan(), exacts.grad.isnan())
    assert native.bias.grad is not None
    assert native.bias.grad[0] == 4 * 8 * 8  # the gradient passes where y is no number


def test_a_zero_behind_the_relu_has_no_sign() -> None:
    native, _ = native_and_exact(16)
    nn.init.zeros_(native.weight)
    nn.init.constant_(native.bias, -0.0)

    y = native.with_relu(torch.randn(4, 16, 5, 5), torch.full((4, 16, 5, 5), -0.0))

    assert not y.any()
    assert not y.signbit().any()


def test_a_nearly_constant_channel_keeps_its_variance() -> None:
    native, _ = native_and_exact(16)
    x = 1000 + 0.01 * torch.randn(64, 16, 8, 8)

    native(x)

    assert native.running_var is not None
    assert torch.allclose((native.running_var - 0.9) / 0.1, x.var((0, 2, 3)), atol=1e-6, rtol=0.05)


def test_a_residual_in_another_memory_format_is_the_same_residual() -> None:
    native, _ = native_and_exact(16)
    x, residual = torch.randn(4, 16, 5, 5), torch.randn(4, 16, 5, 5)

    plain = native.with_relu(x, residual)
    other = native.with_relu(x, residual.contiguous(memory_format=torch.channels_last))

    assert torch.equal(plain, other)


def test_evaluation_and_other_formats_are_left_to_the_library() -> None:
    native, exact = native_and_exact(5)
    x = torch.randn(4, 5, 3, 3, dtype=torch.double)

    assert torch.equal(native.double()(x), exact(x))
    assert torch.equal(native.eval()(x), exact.eval()(x))


def test_a_norm_in_another_format_is_left_to_the_library() -> None:
    """Native code takes its parameters and statistics for fp32: others would be overrun."""
    native, plain = (norm.bfloat16() for norm in native_and_exact(16))
    x = torch.randn(4, 16, 5, 5).bfloat16()

    assert torch.equal(native(x), plain(x))
    assert torch.equal(native.running_var, plain.running_var)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3, 16, 3, 5), (5, 3, 4, 4), (1, 24, 5, 5)])
@pytest.mark.parametrize("relu", [False, True])
def test_pixels_that_do_not_fill_rows_are_left_to_the_library(
    shape: tuple[int, ...], relu: bool
) -> None:
    native, exact = native_and_exact(shape[1])
    plain, x = exact.float(), torch.randn(shape)

    assert torch.equal(
        native.with_relu(x) if relu else native(x), norm_relu(plain, x) if relu else plain(x)
    )


def test_no_images_are_left_to_the_library() -> None:
    native, _ = native_and_exact(16)

    assert native(torch.empty(0, 16, 5, 5)).shape == (0, 16, 5, 5)
    assert native(torch.empty(2, 16, 0, 5)).shape == (2, 16, 0, 5)


def test_one_value_per_channel_is_refused_as_by_the_library() -> None:
    native, _ = native_and_exact(64)

    for normalise in (native, native.with_relu):
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            normalise(torch.randn(1, 64, 1, 1))


def test_other_channels_and_an_unlike_residual_are_what_they_are_to_the_library() -> None:
    native, _ = native_and_exact(16)
    x, row = torch.randn(4, 16, 5, 5), torch.randn(4, 16, 1, 5)

    with pytest.raises(RuntimeError, match="running_mean should contain 32 elements not 16"):
        native(torch.randn(4, 32, 5, 5))
    assert error(native.with_relu(x, row), native.with_relu(x, row.expand_as(x))) < 1e-5


def test_a_network_trains_to_the_same_gradients() -> None:
    torch.manual_seed(0)
    plain = make_model("resnet14", "subkernel", 3, 3, 0.0).to(memory_format=torch.channels_last)
    native = copy.deepcopy(plain)
    use_native_norms(native)
    x = torch.randn(16, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    for net in (plain, native):
        net(x).square().sum().backward()

    assert list(native.state_dict()) == list(plain.state_dict())
    for ours, theirs in zip(native.parameters(), plain.parameters(), strict=True):
        assert error(ours.grad, theirs.grad) < 1e-4  # type: ignore[arg-type]


def test_norm_relu_of_any_norm() -> None:
    x, residual = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)

    assert torch.equal(norm_relu(nn.Identity(), x, residual), torch.relu(x + residual))
