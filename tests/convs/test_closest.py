"""The factors closest to a given kernel."""

from __future__ import annotations

import pytest
import torch

from pipeline.convs import closest_factors, make_conv
from pipeline.errors import ConfigError
from tests.convs.cases import LINEAR


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("in_channels", [6, 1])  # of 1 a bottleneck is wider inside
def test_a_kernel_that_the_variant_can_write_is_found_exactly(name, dimensions, in_channels):
    torch.manual_seed(0)
    target = make_conv(name, in_channels, 8, 3, dimensions=dimensions).double().weight().detach()
    conv = make_conv(name, in_channels, 8, 3, dimensions=dimensions).double()

    assert closest_factors(conv, target) < 1e-6
    torch.testing.assert_close(conv.weight(), target, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["channel-selection", "separable", "bottleneck2"])
def test_no_descent_from_there_or_elsewhere_comes_closer(name):
    torch.manual_seed(0)
    target = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    conv = make_conv(name, 3, 4, 2).double()
    error = closest_factors(conv, target)

    assert error == pytest.approx(float((target - conv.weight().detach()).norm() / target.norm()))
    for start in range(5):
        torch.manual_seed(start)
        other = make_conv(name, 3, 4, 2).double()
        optimizer = torch.optim.LBFGS(
            other.parameters(), max_iter=300, line_search_fn="strong_wolfe"
        )

        def loss(other=other, optimizer=optimizer):
            optimizer.zero_grad()
            value = (target - other.weight()).square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        assert error <= float(loss().sqrt() / target.norm()) * (1 + 1e-4)


def test_the_error_is_what_the_singular_values_leave():
    torch.manual_seed(0)
    target = torch.randn(5, 4, 3, 3)
    conv = make_conv("channel-selection", 4, 5, 3)

    values = torch.linalg.svdvals(target.flatten(2))

    expected = float(values[:, 1:].norm() / values.norm())
    assert closest_factors(conv, target) == pytest.approx(expected, rel=1e-4)


def test_what_is_wider_inside_than_the_kernel_can_still_learn():
    torch.manual_seed(0)
    conv = make_conv("bottleneck2", 1, 8, 3)  # four channels inside, one outside
    target = torch.randn(8, 1, 3, 3)

    closest_factors(conv, target)
    conv.weight().square().sum().backward()

    assert bool((conv.core.grad[:, 1:] != 0).any())


def test_a_zero_kernel_has_no_error_and_biases_stay():
    conv = make_conv("separable", 2, 3, 3, bias=True)
    bias = conv.bias.detach().clone()

    assert closest_factors(conv, torch.zeros(3, 2, 3, 3)) == 0.0
    assert torch.equal(conv.bias, bias)


def test_a_kernel_of_another_shape_is_refused():
    conv = make_conv("separable", 2, 3, 3)

    with pytest.raises(ConfigError, match=r"\(3, 2, 5, 5\): this kernel has \(3, 2, 3, 3\)"):
        closest_factors(conv, torch.zeros(3, 2, 5, 5))
