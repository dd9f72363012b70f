"""Weights to start from: found, fitted to other classes and channels, refused elsewhere."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.convs import KernelConv
from pipeline.errors import DataError
from pipeline.models.pretrained import (
    classifier_parameters,
    find_weights,
    load_weights,
    weights_slug,
)
from pipeline.models.registry import make_model

TINY = "test_resnet.r160_in1k"


def weights_of(model: nn.Module, folder: Path, name: str = "model") -> Path:
    path = folder / f"{name}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def published() -> nn.Module:
    torch.manual_seed(3)
    return timm.create_model(TINY, num_classes=20).eval()


@pytest.mark.parametrize(
    ("model", "slug"),
    [
        ("resnet18", "resnet18-weights"),
        ("timm/resnet18", "timm-resnet18-weights"),
        (TINY, "test-resnet-r160-in1k-weights"),
    ],
)
def test_the_slug_of_a_dataset(model: str, slug: str) -> None:
    assert weights_slug(model) == slug


def test_every_timm_name_makes_a_slug_of_its_own_that_kaggle_takes() -> None:
    names = timm.list_pretrained()
    slugs = {weights_slug(name) for name in names}
    assert len(slugs) == len(names) > 1000
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug) for slug in slugs)
    assert all(6 <= len(slug) <= 50 for slug in slugs)


@pytest.mark.parametrize("place", [".", "datasets/alice"])
def test_weights_are_found_in_both_places_of_kaggle(
    tmp_path: Path, published: nn.Module, place: str
) -> None:
    assert find_weights(TINY, [tmp_path / "none", tmp_path]) is None
    path = weights_of(published, tmp_path / place / weights_slug(TINY))
    assert find_weights(TINY, [tmp_path / "none", tmp_path]) == path
    weights_of(published, path.parent, "another")
    with pytest.raises(DataError, match=r"holds 2 weights \(another.safetensors, model"):
        find_weights(TINY, [tmp_path])


def test_the_same_network_computes_the_same(tmp_path: Path, published: nn.Module) -> None:
    path = weights_of(published, tmp_path)
    net = make_model(TINY, "subkernel", 3, 20, 0.0, path).eval()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(net(images), published(images))


@pytest.mark.parametrize("name", [TINY, "test_vit.r160_in1k", "test_byobnet.r160_in1k"])
def test_a_classifier_of_other_classes_stays_as_drawn(tmp_path: Path, name: str) -> None:
    published = timm.create_model(name, num_classes=20)
    path = weights_of(published, tmp_path)
    torch.manual_seed(0)
    drawn = make_model(name, "subkernel", 3, 5, 0.0).state_dict()
    torch.manual_seed(0)
    own = make_model(name, "subkernel", 3, 5, 0.0, path).state_dict()
    head = {TINY: "fc", "test_vit.r160_in1k": "head", "test_byobnet.r160_in1k": "head.fc"}[name]
    state: dict[str, Tensor] = dict(published.state_dict())
    for key, value in state.items():
        torch.testing.assert_close(own[key], drawn[key] if key.startswith(head) else value)


@pytest.mark.parametrize("channels", [1, 6])
def test_the_first_convolution_is_fitted_to_other_channels(
    tmp_path: Path, published: nn.Module, channels: int
) -> None:
    """The same image in every channel gives what it gave in red, green and blue."""
    path = weights_of(published, tmp_path)
    net = make_model(TINY, "subkernel", channels, 20, 0.0, path).eval()
    grey = torch.randn(2, 1, 64, 64)
    expected = published(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(net(grey.expand(-1, channels, -1, -1)), expected)


@pytest.mark.parametrize("conv", ["subkernel", "channel-selection", "bottleneck"])
def test_so_are_the_factors_of_a_first_convolution(tmp_path: Path, conv: str) -> None:
    before = make_model("nntrain-cnn", conv, 3, 10, 0.0).eval()
    net = make_model("nntrain-cnn", conv, 1, 10, 0.0, weights_of(before, tmp_path)).eval()
    grey = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(net(grey), before(grey.expand(-1, 3, -1, -1)))


def test_a_filter_for_each_of_other_channels_is_refused(tmp_path: Path) -> None:
    path = weights_of(make_model("nntrain-cnn", "separable", 3, 10, 0.0), tmp_path)
    with pytest.raises(DataError, match=r"first 'features.0.depth' \(3 x 1 x 3 x 3 there, 1 x 1"):
        make_model("nntrain-cnn", "separable", 1, 10, 0.0, path)


def test_swapped_convolutions_start_closest_to_the_published_kernels(
    tmp_path: Path, published: nn.Module
) -> None:
    path = weights_of(published, tmp_path)
    wide = published.state_dict()["layer2.0.conv2.weight"]

    def distance(weights: Path | None) -> float:
        net = make_model(TINY, "separable", 3, 20, 0.0, weights)
        conv = net.get_submodule("layer2.0.conv2")
        assert isinstance(conv, KernelConv)
        return float((conv.weight().detach() - wide).norm() / wide.norm())

    assert distance(path) < 1 < distance(None)


def test_weights_of_another_architecture_are_refused(tmp_path: Path, published: nn.Module) -> None:
    path = weights_of(published, tmp_path)
    words = r"another network: \d+ of \d+ tensors differ, first '\S+' \(.*there, .*wanted\)"
    with pytest.raises(DataError, match=words):
        make_model("test_vit.r160_in1k", "subkernel", 3, 20, 0.0, path)
    with pytest.raises(DataError, match=r"first 'stem.weight' \(none there, 16 x 3 x 3 x 3 wanted"):
        make_model("resnet14", "subkernel", 3, 3, 0.0, path)


def test_an_own_network_starts_from_its_own_weights(tmp_path: Path) -> None:
    path = weights_of(make_model("resnet14", "separable", 3, 3, 0.0), tmp_path)
    net = make_model("resnet14", "separable", 3, 7, 0.0, path)
    assert net.state_dict()["head.weight"].shape[0] == 7
    with pytest.raises(DataError, match="another network"):
        make_model("resnet14", "subkernel", 3, 3, 0.0, path)


@pytest.mark.parametrize("conv", ["subkernel", "separable", "bottleneck", "bottleneck-norm"])
@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet14", ("head",)),
        ("mnist-net", ("head.4",)),
        ("nntrain-cnn", ("head",)),
        ("nntrain-cnn-deep", ("head",)),
        ("resnet-nntrain", ("head", "norm")),
    ],
)
def test_own_networks_go_on_with_other_classes(
    tmp_path: Path, name: str, head: tuple[str, ...], conv: str
) -> None:
    before = make_model(name, conv, 1, 10, 0.0)
    path = weights_of(before, tmp_path)
    state: dict[str, Tensor] = dict(before.state_dict())
    torch.manual_seed(0)
    drawn = make_model(name, conv, 1, 5, 0.0).state_dict()
    torch.manual_seed(0)
    net = make_model(name, conv, 1, 5, 0.0, path)
    of_head = tuple(f"{module}." for module in head)

    for key, value in net.state_dict().items():
        assert torch.equal(value, (drawn if key.startswith(of_head) else state)[key])
    named = {key for key, p in net.named_parameters() if p in classifier_parameters(net)}
    assert named == {key for key, _ in net.named_parameters() if key.startswith(of_head)}


@pytest.mark.parametrize("conv", ["subkernel", "separable"])
def test_weights_that_are_no_numbers_are_refused(
    tmp_path: Path, published: nn.Module, conv: str
) -> None:
    broken = copy.deepcopy(published)
    nn.init.constant_(broken.get_parameter("layer2.0.conv2.weight"), torch.nan)
    path = weights_of(broken, tmp_path)

    with pytest.raises(DataError, match=r"not finite in 1 of \d+ tensors, first 'layer2.0.conv2.w"):
        make_model(TINY, conv, 3, 20, 0.0, path)


def test_a_damaged_file_is_named(tmp_path: Path, published: nn.Module) -> None:
    path = weights_of(published, tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    for broken in (path, tmp_path / "missing.safetensors"):
        with pytest.raises(DataError, match=f"{broken.name} is no safetensors file"):
            load_weights(published, broken)
