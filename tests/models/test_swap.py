"""Any model's standard convolutions become a variant, keeping all but their factors."""

import pytest
import timm
import torch
from torch import nn

from pipeline.convs import KernelConv, NormChain, conv_names
from pipeline.errors import ConfigError
from pipeline.models.swap import swap_convs

# A spread of families: plain, grouped, gated, standardised, attention, without any norm.
TIMM_MODELS = [
    "test_byobnet",
    "test_coatnet",
    "test_convnext",
    "test_efficientnet",
    "test_mambaout",
    "test_maxvit",
    "test_nfnet",
    "test_resnet",
    "test_vit",
    "test_vit_relpos",
]


def test_geometry_bias_and_dtype_stay():
    old = nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 4), dilation=(1, 2)).double()
    model = nn.Sequential(old)
    x = torch.randn(2, 4, 9, 11, dtype=torch.float64)

    report = swap_convs(model, "separable")

    new = model[0]
    assert report.replaced == [("0", None)]
    assert (new.in_channels, new.out_channels) == (4, 6)
    assert (new.kernel_size, new.stride) == (old.kernel_size, old.stride)
    assert (new.padding, new.dilation) == (old.padding, old.dilation)
    assert new.bias.dtype == torch.float64
    assert new(x).shape == old(x).shape


@pytest.mark.parametrize("padding", ["same", "valid", 2])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_subkernel_from_weights_computes_the_same(dimensions, padding):
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
    model = nn.Sequential(conv(3, 5, 4, padding=padding), nn.ReLU(), conv(5, 2, 1, bias=False))
    x = torch.randn(2, 3, *[7, 6, 5][:dimensions])
    expected = model(x)

    report = swap_convs(model, "subkernel", from_weights=True)

    assert [error for _, error in report.replaced] == [0, 0]
    assert sum(isinstance(module, KernelConv) for module in model) == 2
    torch.testing.assert_close(model(x), expected)


def test_from_weights_reports_how_far_the_closest_kernel_is():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    rank_one = torch.randn(8, 8, 1, 1) * torch.randn(8, 1, 3, 3)
    model[1].weight.data = rank_one
    full_rank, bias = model[0].weight.detach().clone(), model[0].bias.detach().clone()

    report = swap_convs(model, "channel-selection", from_weights=True)

    far, near = (error for _, error in report.replaced)
    distance = (model[0].weight() - full_rank).norm() / full_rank.norm()
    assert far == pytest.approx(distance.item(), rel=1e-4)
    assert 0.1 < far < 1
    assert near < 1e-5
    assert torch.equal(model[0].bias, bias)


def test_biases_that_the_old_convolution_lacked_start_at_zero():
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, bias=False))

    swap_convs(model, "bottleneck", from_weights=True, inner_bias=True)

    assert model[0](torch.zeros(1, 4, 5, 5)).abs().max() == 0


def test_what_is_no_plain_convolution_is_kept_with_the_reason():
    class Standardised(nn.Conv2d):
        """One of those that compute in their own way."""

    model = nn.ModuleDict(
        {
            "plain": nn.Conv2d(4, 4, 3),
            "grouped": nn.Conv2d(4, 4, 3, groups=2),
            "mirrored": nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
            "own": Standardised(4, 4, 3),
            "up": nn.ConvTranspose2d(4, 4, 3),
            "sequence": nn.Conv1d(4, 4, 3),
            "weighted": torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
        }
    )

    report = swap_convs(model, "separable")

    assert [path for path, _ in report.replaced] == ["plain"]
    assert dict(report.kept) == {
        "grouped": "2 groups",
        "mirrored": "reflect padding",
        "own": "Standardised, not exactly nn.Conv2d or nn.Conv3d",
        "up": "transposed",
        "sequence": "Conv1d, not exactly nn.Conv2d or nn.Conv3d",
        "weighted": "ParametrizedConv2d, not exactly nn.Conv2d or nn.Conv3d",
    }


def test_a_shared_convolution_stays_shared():
    shared = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(shared, nn.ReLU(), shared)

    report = swap_convs(model, "separable")

    assert [path for path, _ in report.replaced] == ["0", "2"]
    assert model[0] is model[2]


def test_what_is_a_variant_already_is_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 8, 3))
    swap_convs(model, "bottleneck-norm")

    assert swap_convs(model, "separable").replaced == []
    assert isinstance(model[0], NormChain)


@pytest.mark.parametrize(
    ("conv", "options", "message"),
    [
        ("sub-kernel", {}, "CONV='sub-kernel' is unknown"),
        ("subkernel", {"execution": "linear"}, "EXECUTION='linear'"),
        ("separable-norm", {"from_weights": True}, "norms between.*choose separable"),
    ],
)
def test_what_cannot_be_made_leaves_the_model_as_it_was(conv, options, message):
    model = nn.Sequential(nn.Conv2d(3, 4, 3))

    with pytest.raises(ConfigError, match=message):
        swap_convs(model, conv, **options)
    assert type(model[0]) is nn.Conv2d


@pytest.mark.parametrize("conv", ["channel-selection", "bottleneck-norm"])
@pytest.mark.parametrize("name", TIMM_MODELS)
def test_timm_models_run_forward_and_backward_with_swapped_convolutions(name, conv):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3)
    size = timm.get_pretrained_cfg(name).input_size

    report = swap_convs(model, conv)
    model(torch.randn(2, *size)).square().mean().backward()

    swapped = [m for m in model.modules() if isinstance(m, KernelConv | NormChain)]
    assert len(swapped) == len(report.replaced)
    assert all(p.grad is not None for module in swapped for p in module.parameters())
    if name != "test_nfnet":
        assert report.replaced


def test_every_name_can_be_swapped_in():
    for conv in conv_names():
        model = nn.Sequential(nn.Conv3d(2, 4, 3, stride=2, padding=1))

        swap_convs(model, conv)

        assert model(torch.randn(1, 2, 5, 5, 5)).shape == (1, 4, 3, 3, 3)
