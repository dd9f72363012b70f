"""The fused network computes what the trained one does, with plain convolutions only."""

import copy
import logging

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.convs import KernelConv, NormChain, conv_names, make_conv
from pipeline.models import example_shape, make_model, model_names
from pipeline.models.classifier import ImageClassifier
from pipeline.models.fuse import batch_norms, fuse
from pipeline.models.norm import use_sum_norms

SMALL_SIDES = {
    "resnet14": (9, 8),
    "vbnet": (16, 16, 16),
    "conv-layer3d": (4, 5, 3),
    "resnet18": (40, 33),
}
LARGE = ("vbnet", "resnet18", "test_efficientnet")


def trained(model):
    """The model with weights, norms and statistics as after some training, in float64."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return model.double()


def assert_same(model, fused, x):
    model = copy.deepcopy(model).eval()
    with torch.inference_mode():
        expected, got = model(x), fused(x)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9 * expected.abs().max().item())


def is_plain(model):
    return not any(isinstance(m, KernelConv | NormChain | _BatchNorm) for m in model.modules())


def pair(name, conv):
    """What is large is tried with every convolution in `make soak` alone."""
    often = name not in LARGE or conv in ("channel-selection", "bottleneck-norm")
    return pytest.param(name, conv, marks=[] if often else pytest.mark.soak)


NETWORKS = [*model_names(), "resnet18", "test_efficientnet"]


@pytest.mark.parametrize(
    ("name", "conv"), [pair(name, conv) for name in NETWORKS for conv in conv_names()]
)
def test_every_network_keeps_its_numbers_and_loses_its_factors_and_norms(name, conv):
    torch.manual_seed(0)
    shape = example_shape(name)
    model = trained(make_model(name, conv, shape[0], 3, dropout=0.3))
    x = torch.randn(2, shape[0], *SMALL_SIDES.get(name, shape[1:]), dtype=torch.float64)

    fused = fuse(model)

    assert is_plain(fused)
    assert_same(model, fused, x)


@pytest.mark.parametrize("name", ["test_byobnet", "test_coatnet", "test_convnext", "test_nfnet"])
def test_timm_models_keep_their_numbers(name):
    torch.manual_seed(0)
    model = trained(make_model(name, "bottleneck", 3, 3, dropout=0.3))
    x = torch.randn(2, *example_shape(name), dtype=torch.float64)

    fused = fuse(model)

    assert not any(isinstance(module, KernelConv) for module in fused.modules())
    assert_same(model, fused, x)


@pytest.mark.parametrize("padding", [0, 1, "same"])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(
    "name", ["channel-selection", "separable", "bottleneck", "bottleneck-norm"]
)
def test_inner_biases_are_exact_at_the_border(name, dimensions, padding):
    torch.manual_seed(0)
    conv = make_conv(
        name, 3, 8, 4, dimensions=dimensions, padding=padding, bias=True, inner_bias=True
    )
    model = trained(conv)

    fused = fuse(model)

    assert is_plain(fused)
    assert_same(model, fused, torch.randn(2, 3, *[6, 5, 7][:dimensions], dtype=torch.float64))


def test_a_shared_convolution_is_composed_at_each_of_its_places():
    torch.manual_seed(0)
    shared = make_conv("separable", 3, 3, 3, padding=1)
    model = trained(nn.Sequential(shared, nn.BatchNorm2d(3), nn.ReLU(), shared, nn.BatchNorm2d(3)))

    fused = fuse(model)

    assert is_plain(fused)
    assert_same(model, fused, torch.randn(2, 3, 7, 7, dtype=torch.float64))


def test_the_original_is_left_as_it_is():
    model = trained(make_model("resnet14", "channel-selection", 3, 3, 0.2))
    before = copy.deepcopy(model.state_dict())
    drawn = torch.random.get_rng_state()

    fuse(model)

    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert any(isinstance(module, KernelConv) for module in model.modules())
    assert torch.equal(torch.random.get_rng_state(), drawn)


def test_a_classifier_is_fused_with_its_normalisation():
    net = make_model("resnet14", "separable", 3, 4, 0.2)
    model = trained(ImageClassifier(net, torch.full((3,), 99.0), torch.full((3,), 50.0)))
    model.mean, model.scale = model.mean.float(), model.scale.float()
    images = torch.randint(0, 256, (2, 8, 9, 3), dtype=torch.uint8)

    fused = fuse(model.float())

    assert is_plain(fused)
    with torch.inference_mode():
        torch.testing.assert_close(fused(images), model.eval()(images), rtol=1e-3, atol=1e-4)


def test_norms_of_a_group_keep_the_activation_that_they_hold():
    torch.manual_seed(0)
    norm = BatchNormAct2d(4)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm)
    use_sum_norms(model, processes=2)
    model = trained(model)

    fused = fuse(model)

    assert type(norm) is not BatchNormAct2d
    assert is_plain(fused)
    assert_same(model, fused, torch.randn(2, 3, 8, 8, dtype=torch.float64))


def test_norms_for_compiled_training_are_folded_like_the_librarys():
    torch.manual_seed(0)
    model = make_model("resnet14", "subkernel", 3, 3, 0.0)
    use_sum_norms(model)
    model = trained(model)

    fused = fuse(model)

    assert is_plain(fused)
    assert_same(model, fused, torch.randn(2, 3, 8, 8, dtype=torch.float64))


class Branching(nn.Module):
    """Looks at values, so its dataflow is not one graph."""

    def __init__(self):
        super().__init__()
        self.before = nn.Sequential(make_conv("separable", 3, 4, 3), nn.BatchNorm2d(4))
        self.conv = make_conv("separable", 4, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.norm(self.conv(self.before(x)))
        return x if x.mean() > 0 else -x


class Optional(nn.Module):
    """Takes another path when a second argument is given."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x, mask=None):
        x = self.norm(self.conv(x))
        return x if mask is None else x * mask


class Twice(nn.Module):
    """One convolution behind which two norms stand."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm1, self.norm2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm1(self.conv(x)) + self.norm2(self.conv(x.square()))


@pytest.mark.parametrize(
    ("kind", "left"),
    [(Branching, ["norm"]), (Optional, ["norm"]), (Twice, ["norm1", "norm2"])],
)
def test_norms_that_cannot_be_folded_stay_and_are_told(kind, left, caplog):
    torch.manual_seed(0)
    model = trained(kind())

    with caplog.at_level(logging.INFO):
        fused = fuse(model)

    assert batch_norms(fused) == left
    assert f"{len(left)} batch norms stay, first {left[0]}" in caplog.text
    assert not any(isinstance(module, KernelConv) for module in fused.modules())
    assert_same(model, fused, torch.randn(2, 3, 7, 7, dtype=torch.float64))
