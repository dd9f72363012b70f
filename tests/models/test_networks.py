"""The networks have the published sizes, with every convolution."""

import pytest
import torch

from pipeline.convs import conv_names
from pipeline.errors import ConfigError
from pipeline.models import (
    check_classifier,
    check_images,
    example_classes,
    example_shape,
    make_model,
    model_module,
    model_names,
)

SMALL_SIDES = {"vbnet": (16, 16, 32), "conv-layer3d": (3, 4, 5)}


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def published(name, conv, dropout=0.0):
    """The network as published: its own channels and classes."""
    return make_model(name, conv, example_shape(name)[0], example_classes(name), dropout)


@pytest.mark.parametrize(
    ("name", "conv", "count"),
    [
        ("resnet14", "subkernel", 174_787),
        ("resnet14", "channel-selection", 27_363),
        ("resnet14", "channel-selection-linear", 27_363),
        ("resnet18", "subkernel", 11_689_512),
        ("resnet18", "channel-selection-bias", 1_958_824),
        ("vbnet", "subkernel", 10_052_609),
        ("vbnet", "bottleneck", 1_145_061),
        ("conv-layer3d", "subkernel", 13_920),
        ("conv-layer3d", "bottleneck2-norm", 7_872),
        ("conv-layer3d", "separable-norm", 1_088),
        ("conv-layer3d", "bottleneck2", 7_808),
        ("conv-layer3d", "separable", 1_056),
        ("resnet-nntrain", "subkernel", 1_227_900),
    ],
)
def test_parameters_are_exactly_the_published_ones(name, conv, count):
    with torch.device("meta"):
        assert parameters(published(name, conv)) == count


def test_resnet_nntrain_has_the_published_blocks():
    net = published("resnet-nntrain", "subkernel")

    assert [parameters(b) for b in net.blocks] == [696, 3664, 14496, 57664, 230016, 918784]
    assert [parameters(net.head), parameters(net.norm)] == [2560, 20]


@pytest.mark.parametrize("conv", conv_names())
@pytest.mark.parametrize("name", model_names())
def test_every_network_trains_with_every_convolution(name, conv):
    torch.manual_seed(0)
    shape, classes = example_shape(name), example_classes(name)
    sides = SMALL_SIDES.get(name, shape[1:])
    net = published(name, conv, dropout=0.1)

    out = net(torch.randn(2, shape[0], *sides))
    out.square().mean().backward()

    assert out.shape == ((2, classes) if len(sides) == 2 else (2, classes, *sides))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(("size", "channels"), [((8, 8), 1), ((32, 32), 3), ((28, 20), 1)])
@pytest.mark.parametrize("name", ["resnet14", "resnet-nntrain", "resnet18", "test_vit"])
def test_any_image_size_and_number_of_channels_fits(name, size, channels):
    model = make_model(name, "channel-selection", channels, 10, 0.2)

    assert model(torch.randn(2, channels, *size)).shape == (2, 10)


def test_dropout_reaches_library_models():
    for name in ("resnet18", "test_resnet", "test_vit"):
        net = make_model(name, "subkernel", 3, 5, dropout=0.9)
        x = torch.randn(2, 3, 32, 32)
        for module in net.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()  # leaves dropout as the one thing that differs between passes

        assert not torch.equal(net(x), net(x)), name


def test_subkernel_leaves_library_models_as_they_are():
    net = make_model("resnet18", "subkernel", 3, 1000, 0.0)

    assert type(net.conv1) is torch.nn.Conv2d
    assert "layer1.0.conv1.weight" in net.state_dict()
    assert "fc.weight" in net.state_dict()


def test_the_prefix_asks_for_timm_where_torchvision_has_the_name_too():
    torchvisions = make_model("resnet18", "subkernel", 3, 10, 0.0)
    timms = make_model("timm/resnet18", "subkernel", 3, 10, 0.0)

    assert type(torchvisions).__module__.startswith("torchvision.")
    assert type(timms).__module__.startswith("timm.")


def test_unknown_model_lists_the_choices_and_what_was_meant():
    with pytest.raises(ConfigError, match=r"MODEL='resnet15' is unknown; choose from .*resnet14"):
        make_model("resnet15", "subkernel", 3, 3, 0.0)
    with pytest.raises(ConfigError, match="did you mean timm's efficientnet_b8"):
        example_shape("efficientnet_b9")
    with pytest.raises(ConfigError, match=r"'resnet18.a1_in2k' is unknown.* resnet18.a1_in1k"):
        example_shape("resnet18.a1_in2k")


@pytest.mark.parametrize("name", ["vbnet", "conv-layer3d"])
def test_networks_for_volumes_do_not_classify_images(name):
    with pytest.raises(ConfigError, match=f"MODEL='{name}' takes volumes, not images.*resnet14"):
        check_classifier(name)


def test_images_too_small_for_a_network_are_refused_before_training():
    check_images("mnist-net", (3, 28, 28))
    with pytest.raises(ConfigError, match="'mnist-net' cannot take 1 x 8 x 8 images"):
        check_images("mnist-net", (1, 8, 8))
    with pytest.raises(ConfigError, match="'test_maxvit' cannot take 3 x 32 x 32 images"):
        check_images("test_maxvit", (3, 32, 32))


def test_an_encoder_without_a_classifier_is_refused_before_training():
    with pytest.raises(ConfigError, match=r"no classifier: for 2 images.* gives 2 x 1 x 1024 num"):
        check_images("qwen3_vit_88m_enc", (3, 32, 32))
    with pytest.raises(ConfigError, match=r"gemma4_vit_167m_enc is no classifier \(.*drop_rate"):
        check_images("gemma4_vit_167m_enc", (3, 32, 32))


@pytest.mark.parametrize("name", [*model_names(), "resnet18", "test_vit"])
def test_the_defining_module_can_be_imported(name):
    with torch.device("meta"):
        net = published(name, "subkernel")

    assert model_module(name) in (type(net).__module__, "pipeline.models.libraries")
