"""A classifier takes images as the cache holds them and normalises them itself."""

import pytest
import torch

from pipeline.models import ImageClassifier
from pipeline.models.classifier import channel_statistics


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


def test_statistics_of_some_images_are_those_of_their_copy_to_the_last_bit():
    images = torch.randint(0, 256, (70, 4, 4, 2), dtype=torch.uint8)
    index = torch.randperm(70)[:50]

    chosen = channel_statistics(images, index, chunk_pixels=256)

    for one, other in zip(chosen, channel_statistics(images[index], chunk_pixels=256), strict=True):
        assert torch.equal(one, other)
