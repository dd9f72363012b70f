"""Blocks are counted from the classifier, as timm counts its own models' layers."""

import pytest
import timm
import torch
from timm.models import group_parameters
from torch import nn

from pipeline.models import ImageClassifier, make_model
from pipeline.models.depth import classifier_distances


def of_names(model):
    distances = classifier_distances(model)
    return {name: distances[parameter] for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("resnet18", "resnet18"),
        ("timm/resnet18", "resnet18"),
        ("test_vit.r160_in1k", "test_vit"),
        ("test_byobnet.r160_in1k", "test_byobnet"),
    ],
)
@pytest.mark.parametrize("conv", ["subkernel", "channel-selection"])
def test_they_are_timms_layers(name, twin, conv):
    model = make_model(name, conv, 3, 3, 0.0)
    matcher = timm.create_model(twin).group_matcher()

    layers = group_parameters(model, matcher, reverse=True)

    last = max(layers.values())
    assert of_names(model) == {name: last - layer for name, layer in layers.items()}


@pytest.mark.parametrize(("name", "stages"), [("test_convnext.r160_in1k", 4), ("regnety_002", 4)])
def test_a_stage_that_is_a_module_of_its_own_is_one_block(name, stages):
    with torch.device("meta"):
        distances = of_names(make_model(name, "subkernel", 3, 3, 0.0))

    assert set(distances.values()) == set(range(stages + 2))
    assert distances["head.fc.weight"] == 0


@pytest.mark.parametrize(
    ("name", "blocks"), [("resnet14", 8), ("nntrain-cnn-deep", 6), ("mnist-net", 6)]
)
def test_own_networks_count_alike_with_or_without_their_normalisation(name, blocks):
    net = make_model(name, "channel-selection", 3, 3, 0.1)
    model = ImageClassifier(net, torch.zeros(3), torch.ones(3))

    assert classifier_distances(model) == classifier_distances(net)
    assert list(of_names(net).values()) == sorted(of_names(net).values(), reverse=True)
    assert set(of_names(net).values()) == set(range(blocks))


def test_norms_belong_to_the_block_ahead_of_them_and_to_the_first_where_there_is_none():
    net = nn.Sequential(
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.ModuleList([nn.BatchNorm2d(4)])),
        nn.Linear(4, 2),
    )

    distances = of_names(net)

    assert [distances[f"{name}.weight"] for name in ("0", "1", "2", "4.0", "4.1.0", "5")] == [
        2,
        2,
        2,
        1,
        1,
        0,
    ]
