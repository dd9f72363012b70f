"""Every convolution is an ordinary kernel written with other numbers."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.convs import KernelConv2d, conv_names, make_conv, register_conv
from pipeline.errors import ConfigError


def test_channel_selection_is_a_weighted_sum_then_one_filter_per_output_channel():
    torch.manual_seed(0)
    conv = make_conv("channel-selection", 5, 7, 3, stride=2, padding=1).double()
    x = torch.randn(2, 5, 9, 8, dtype=torch.float64)

    selected = F.conv2d(x, conv.select[:, :, None, None])
    expected = F.conv2d(selected, conv.depth[:, None], stride=2, padding=1, groups=7)

    torch.testing.assert_close(conv(x), expected)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(conv_names())),
    channels=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    bias=st.booleans(),
)
def test_every_conv_equals_the_library_with_its_composed_weight(
    name, channels, kernel, stride, padding, bias
):
    conv = make_conv(name, *channels, kernel, stride=stride, padding=padding, bias=bias).double()
    x = torch.randn(2, channels[0], 7, 6, dtype=torch.float64)
    library = torch.nn.Conv2d(*channels, kernel, stride=stride, padding=padding, bias=bias)
    library.weight.data = conv.weight().detach()
    if bias:
        library.bias.data = conv.bias.detach()

    torch.testing.assert_close(conv(x), library.double()(x))


@pytest.mark.parametrize("name", conv_names())
def test_composed_kernel_has_the_variance_of_the_default_initialisation(name):
    torch.manual_seed(0)
    kernel = make_conv(name, 64, 256, 3).weight()

    assert kernel.var().item() == pytest.approx(1 / (3 * 64 * 9), rel=0.1)


@pytest.mark.parametrize("name", conv_names())
def test_gradients_reach_every_factor(name):
    conv = make_conv(name, 3, 4, 3, bias=True)

    conv(torch.randn(2, 3, 8, 8)).square().sum().backward()

    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in conv.parameters())


def test_unknown_name_lists_the_choices():
    with pytest.raises(ConfigError, match=r"CONV='sub-kernel' is unknown; choose from .*subkernel"):
        make_conv("sub-kernel", 1, 1, 1)


def test_a_name_cannot_be_taken_twice():
    with pytest.raises(ValueError, match="'subkernel' is already Subkernel"):
        register_conv("subkernel")(KernelConv2d)
