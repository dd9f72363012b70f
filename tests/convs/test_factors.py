"""Every convolution is an ordinary kernel written with other numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from pipeline.convs import (
    KernelConv,
    NormChain,
    conv_names,
    executions_of,
    make_conv,
    register_conv,
    set_execution,
)
from pipeline.errors import ConfigError
from tests.convs.cases import LINEAR, convs_with_input


def test_channel_selection_is_a_weighted_sum_then_one_filter_per_output_channel():
    torch.manual_seed(0)
    conv = make_conv("channel-selection", 5, 7, 3, stride=2, padding=1).double()
    x = torch.randn(2, 5, 9, 8, dtype=torch.float64)

    selected = F.conv2d(x, conv.select[:, :, None, None])
    expected = F.conv2d(selected, conv.depth, stride=2, padding=1, groups=7)

    torch.testing.assert_close(conv(x), expected)


def test_bottleneck_is_the_chain_of_three_convolutions_with_biases():
    torch.manual_seed(0)
    conv = make_conv("bottleneck", 5, 8, 3, padding=1, bias=True, inner_bias=True).double()
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64)

    y = F.conv2d(x, conv.reduce[:, :, None, None], conv.reduce_bias)
    y = F.conv2d(y, conv.core, conv.core_bias, padding=1)
    y = F.conv2d(y, conv.expand[:, :, None, None], conv.bias)

    torch.testing.assert_close(conv(x), y)


@pytest.mark.parametrize(
    ("name", "out_channels", "inner"),
    [("bottleneck", 17, 4), ("bottleneck2", 17, 8), ("bottleneck", 3, 1), ("bottleneck2", 1, 1)],
)
def test_a_bottleneck_is_never_narrower_than_a_channel(name, out_channels, inner):
    """Else a network with few channels would compute zeros."""
    assert make_conv(name, 5, out_channels, 3).core.shape == (inner, inner, 3, 3)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=convs_with_input())
def test_every_conv_without_inner_bias_is_the_library_with_its_composed_weight(case):
    conv, x = case
    for name, parameter in conv.named_parameters():
        if name.endswith("_bias"):
            parameter.data.zero_()
    library = (F.conv2d, F.conv3d)[conv.dimensions - 2]
    padded = F.pad(x, [p for e in reversed(conv.geometry.extra) for p in (0, e)])

    expected = library(padded, conv.weight(), conv.bias, conv.stride, conv.padding, conv.dilation)

    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", LINEAR)
def test_composed_kernel_has_the_variance_of_the_default_initialisation(name, dimensions):
    torch.manual_seed(0)
    conv = make_conv(name, 64, 256, 3, dimensions=dimensions, bias=True)

    fan_in = 64 * 3**dimensions
    assert conv.weight().var().item() == pytest.approx(1 / (3 * fan_in), rel=0.1)
    assert conv.bias.var().item() == pytest.approx(1 / (3 * fan_in), rel=0.2)


@pytest.mark.parametrize("name", conv_names())
def test_gradients_reach_every_parameter(name):
    torch.manual_seed(0)
    conv = make_conv(name, 3, 4, 3, bias=True, inner_bias="where-possible")

    conv(torch.randn(2, 3, 8, 8)).square().sum().backward()

    unreached = [n for n, p in conv.named_parameters() if p.grad is None]
    assert unreached == []


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("subkernel", 13_920),
        ("bottleneck2", 7_808),
        ("bottleneck2-norm", 7_872),
        ("separable", 1_056),
        ("separable-norm", 1_088),
    ],
)
def test_published_3d_layer_with_its_outer_norm_has_the_published_size(name, parameters):
    conv = make_conv(
        name, 16, 32, 3, dimensions=3, padding=1, bias=True, inner_bias="where-possible"
    )
    layer = torch.nn.Sequential(conv, torch.nn.BatchNorm3d(32))

    assert sum(p.numel() for p in layer.parameters()) == parameters
    assert layer(torch.randn(2, 16, 4, 5, 6)).shape == (2, 32, 4, 5, 6)


def test_parameters_keep_their_names():
    names = {
        name: [n for n, _ in make_conv(name, 8, 8, 3, bias=True).named_parameters()]
        for name in ("subkernel", "channel-selection", "separable", "bottleneck")
    }

    assert {name: sorted(found) for name, found in names.items()} == {
        "subkernel": ["bias", "kernel"],
        "channel-selection": ["bias", "depth", "select"],
        "separable": ["bias", "depth", "mix"],
        "bottleneck": ["bias", "core", "expand", "reduce"],
    }


def test_names_that_fix_a_bias_or_an_execution():
    assert make_conv("channel-selection-bias", 3, 4, 3, bias=False).bias is not None
    assert make_conv("channel-selection-linear", 3, 4, 3).execution == "linear"


def test_norm_chain_has_a_norm_after_every_inner_convolution_and_no_other():
    chain = make_conv("bottleneck-norm", 8, 16, 3, stride=2, padding=1, dilation=2)

    assert isinstance(chain, NormChain)
    kinds = [type(layer).__name__ for layer in chain]
    assert kinds == ["Conv2d", "BatchNorm2d", "Conv2d", "BatchNorm2d", "Conv2d"]
    assert chain(torch.randn(2, 8, 12, 12)).shape == (2, 16, 5, 5)
    even = make_conv("bottleneck-norm", 8, 16, 4, padding="same")
    assert even(torch.randn(2, 8, 12, 12)).shape == (2, 16, 12, 12)


@pytest.mark.parametrize(
    ("options", "biases"),
    [
        ({}, [False, False, False]),
        ({"bias": True}, [True, True, True]),
        ({"bias": True, "inner_bias": False}, [False, False, True]),
        ({"inner_bias": True}, [True, True, False]),
    ],
)
def test_a_norm_chains_inner_convolutions_have_a_bias_if_the_last_one_has(options, biases):
    chain = make_conv("bottleneck-norm", 8, 16, 3, **options)

    assert [layer.bias is not None for layer in chain if hasattr(layer, "stride")] == biases


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 0}, "kernel_size=0: choose a whole number from 1, or 2 of them"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size=\(3, 3, 3\): choose .* or 2 of them"),
        ({"kernel_size": 2.5}, "kernel_size=2.5: choose a whole number from 1"),
        ({"padding": -1}, "padding=-1: choose a whole number from 0"),
        ({"padding": "valid"}, "padding='valid': choose whole numbers from 0 or \"same\""),
        ({"padding": "same", "stride": 2}, 'padding="same" with stride=2: choose stride 1'),
        ({"stride": 0}, "stride=0: choose a whole number from 1"),
        ({"dilation": (1, 0)}, r"dilation=\(1, 0\): choose a whole number from 1"),
        ({"dimensions": 1}, "dimensions=1: choose 2 or 3"),
        ({"in_channels": 0}, "in_channels=0: choose a whole number from 1"),
        ({"out_channels": -3}, "out_channels=-3: choose a whole number from 1"),
        (
            {"execution": "linear"},
            "'linear' does not exist for subkernel; choose from auto, folded",
        ),
        ({"execution": "fast"}, "'fast' does not exist for subkernel; choose from auto, folded"),
        ({"inner_bias": True}, "subkernel has no inner conv; choose False"),
        ({"inner_bias": "yes"}, "inner_bias='yes': choose False, True or \"where-possible\""),
        ({"groups": 2}, "groups.*choose from .*dilation"),
    ],
)
def test_a_convolution_that_cannot_work_is_refused_when_it_is_made(options, message):
    arguments = {"in_channels": 2, "out_channels": 3, "kernel_size": 3, **options}

    with pytest.raises(ConfigError, match=message):
        make_conv("subkernel", **arguments)


def test_unknown_name_lists_the_choices():
    with pytest.raises(ConfigError, match=r"CONV='sub-kernel' is unknown; choose from .*subkernel"):
        make_conv("sub-kernel", 1, 1, 1)


def test_a_name_cannot_be_taken_twice():
    with pytest.raises(ConfigError, match="'subkernel' is already taken"):
        register_conv("subkernel")(KernelConv)


def test_set_execution_reaches_every_convolution_or_none():
    net = torch.nn.Sequential(make_conv("separable", 2, 3, 3), make_conv("subkernel", 3, 4, 3))

    with pytest.raises(ConfigError, match="'factored' does not exist for subkernel"):
        set_execution(net, "factored")
    assert [conv.execution for conv in net] == ["auto", "auto"]

    set_execution(net, "shifted")
    assert [conv.execution for conv in net] == ["shifted", "shifted"]


def test_only_channel_selection_offers_the_published_linear_form():
    offering = [name for name in LINEAR if "linear" in executions_of(make_conv(name, 4, 4, 3))]

    assert offering == ["channel-selection", "channel-selection-bias"]
