"""The networks have the published sizes and learn from images as the cache holds them."""

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.models import ImageClassifier, make_model
from pipeline.models.classifier import channel_statistics


@pytest.mark.parametrize(
    ("conv", "parameters"), [("subkernel", 174_787), ("channel-selection", 27_363)]
)
def test_resnet14_has_exactly_the_published_parameters(conv, parameters):
    model = make_model("resnet14", conv, in_channels=3, classes=3, dropout=0.2)

    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(("size", "channels"), [((8, 8), 1), ((32, 32), 3), ((28, 20), 1)])
def test_resnet14_takes_any_image_size(size, channels):
    model = make_model("resnet14", "channel-selection", channels, 10, 0.0)

    assert model(torch.randn(2, channels, *size)).shape == (2, 10)


def test_unknown_model_lists_the_choices():
    with pytest.raises(ConfigError, match="MODEL='resnet15' is unknown; choose from resnet14"):
        make_model("resnet15", "subkernel", 3, 3, 0.0)


def test_classifier_normalises_by_channel_without_copying_to_nchw():
    seen = []
    net = torch.nn.Identity()
    net.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    images = torch.randint(0, 256, (50, 6, 5, 3), dtype=torch.uint8)

    ImageClassifier(net, *channel_statistics(images))(images)

    assert seen[0].shape == (50, 3, 6, 5)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(seen[0].mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0].var((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_statistics_equal_the_direct_formula_and_survive_constant_channels():
    images = torch.randint(0, 256, (70, 4, 4, 2), dtype=torch.uint8)
    images[..., 1] = 9

    mean, std = channel_statistics(images, chunk_pixels=256)

    pixels = images.double().reshape(-1, 2)
    torch.testing.assert_close(mean.double(), pixels.mean(0), atol=1e-4, rtol=0)
    assert std[0].item() == pytest.approx(pixels[:, 0].std(correction=0).item(), rel=1e-5)
    assert std[1].item() == 1
