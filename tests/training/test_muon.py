"""Which weights Muon is for."""

import pytest
import torch

from pipeline.models import make_model
from pipeline.training.muon import hidden_matrices


@pytest.mark.parametrize("conv", ["subkernel", "channel-selection"])
def test_muon_is_for_what_maps_hidden_channels_to_hidden_channels(conv):
    model = make_model("resnet14", conv, 3, 3, 0.0)
    hidden = hidden_matrices(model)

    names = {name for name, parameter in model.named_parameters() if parameter in hidden}

    kept = "kernel" if conv == "subkernel" else "select"
    assert len(names) == 14
    assert all(name.startswith("blocks.") and name.endswith(kept) for name in names)


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("test_vit", {"patch_embed.proj.weight", "head.weight"}),
        ("deit_tiny_distilled_patch16_224", {"patch_embed.proj", "head.weight", "head_dist."}),
        ("swin_tiny_patch4_window7_224", {"patch_embed.proj", "position_bias_table", "head.fc"}),
        ("nntrain-cnn", {"features.0.", "head."}),
    ],
)
def test_muon_is_not_for_pixels_positions_and_classes(name, others):
    with torch.device("meta"):
        model = make_model(name, "subkernel", 3, 4, 0.0)
    hidden = hidden_matrices(model)

    names = {name for name, parameter in model.named_parameters() if parameter in hidden}

    assert len(names) > 2
    assert not [name for name in names if any(other in name for other in others)]


@pytest.mark.parametrize("conv", ["separable", "separable-norm", "bottleneck"])
@pytest.mark.parametrize("name", ["resnet18", "nntrain-cnn"])
def test_no_factor_of_a_first_layer_that_was_replaced_is_for_muon(name, conv):
    with torch.device("meta"):
        model = make_model(name, conv, 3, 4, 0.0)
    hidden = hidden_matrices(model)

    layers = {name for name, parameter in model.named_parameters() if parameter in hidden}

    assert len(layers) > 2
    assert not [name for name in layers if name.startswith(("conv1.", "features.0.", "head."))]
