"""Weights bring the normalisation that they were trained with, or one line says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import DataError
from pipeline.models import ImageClassifier, make_model
from pipeline.models.classifier import channel_statistics
from pipeline.models.libraries import library_normalisation
from pipeline.models.normalisation import Normalisation
from pipeline.models.registry import weights_normalisation

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
ANY = {"weight": torch.zeros(1)}


def described(path: Path, text: str | None) -> Path:
    save_file(ANY, path, None if text is None else {"normalisation": text})
    return path


@pytest.mark.parametrize(
    ("model", "mean", "std"),
    [
        ("resnet18", *IMAGENET),
        ("timm/resnet18", *IMAGENET),
        ("vit_tiny_patch16_224", (127.5,) * 3, (127.5,) * 3),
    ],
)
def test_a_librarys_weights_are_normalised_as_it_says(
    tmp_path: Path, model: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    path = described(tmp_path / "plain.safetensors", None)
    found = weights_normalisation(model, path, 3)
    assert found is not None
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)
    grey = weights_normalisation(model, path, 1)
    assert grey is not None
    assert grey.mean == pytest.approx([sum(mean) / 3])
    assert grey.std == pytest.approx([sum(std) / 3])


def test_a_files_own_word_goes_first(tmp_path: Path) -> None:
    own = Normalisation((10.0, 20.0, 30.0), (40.0, 50.0, 60.0))
    path = tmp_path / "own.safetensors"
    save_file(ANY, path, own.metadata())
    assert weights_normalisation("resnet18", path, 3) == own
    assert weights_normalisation("resnet14", path, 3) == own
    assert library_normalisation("resnet18") != own


def test_an_own_networks_plain_weights_say_nothing(tmp_path: Path) -> None:
    assert weights_normalisation("resnet14", described(tmp_path / "a.safetensors", None), 3) is None


@pytest.mark.parametrize("model", ["resnet14", "test_resnet.r160_in1k"])
def test_the_weights_of_a_runs_fold_are_taken_with_their_normalisation(
    tmp_path: Path, model: str
) -> None:
    mean, std = torch.tensor([90.0, 100.0, 110.0]), torch.tensor([50.0, 60.0, 70.0])
    trained = ImageClassifier(make_model(model, "subkernel", 3, 4, 0.0), mean, std)
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in trained.state_dict().items()}, path)

    net = make_model(model, "subkernel", 3, 4, 0.0, path)

    found = weights_normalisation(model, path, 3)
    assert found is not None
    assert found.mean == pytest.approx(mean.tolist())
    assert found.std == pytest.approx(std.tolist())
    assert net.state_dict().keys() == trained.net.state_dict().keys()
    for key, value in trained.net.state_dict().items():
        assert torch.equal(net.state_dict()[key], value)


def test_images_of_few_shades_have_a_small_deviation_that_their_weights_keep(
    tmp_path: Path,
) -> None:
    """Such as masks with values of 0 and 1."""
    images = (torch.arange(2 * 8 * 8).reshape(2, 8, 8, 1) % 2).to(torch.uint8)
    mean, std = channel_statistics(images)
    trained = ImageClassifier(nn.Linear(1, 4), mean, std)
    path = tmp_path / "weights.safetensors"
    save_file(trained.state_dict(), path)

    assert weights_normalisation("resnet14", path, 1) == Normalisation((0.5,), (0.5,))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("{", "JSONDecodeError"),
        ({"mean": [1, 2, 3]}, "KeyError: 'std'"),
        ({"mean": 5, "std": 5}, "TypeError"),
        ({"mean": ["red"], "std": [50]}, "ValueError"),
        ({"mean": [float("nan")], "std": [50]}, "not all are finite numbers"),
        ({"mean": [100, 100, 100], "std": [50]}, "3 means and 1 deviations"),
        ({"mean": [], "std": []}, "0 means"),
        ({"mean": [300], "std": [50]}, "a mean is outside 0 to 255"),
        ({"mean": [100], "std": [0]}, "a deviation is outside 1 to 255"),
        ({"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, "a deviation is outside"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, values: object, reason: str) -> None:
    text = values if isinstance(values, str) else json.dumps(values)
    path = described(tmp_path / "wrong.safetensors", text)
    with pytest.raises(DataError, match=rf"wrong\.safetensors: .*{reason}.*pixel values 0 to 255"):
        weights_normalisation("resnet18", path, 3)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"cut\.safetensors is no safetensors file"):
        weights_normalisation("resnet18", tmp_path / "cut.safetensors", 3)


def test_every_published_model_has_a_normalisation_that_would_be_accepted() -> None:
    for name in timm.list_pretrained()[::50]:
        mean, std = library_normalisation(f"timm/{name}")
        assert len(mean) == len(std) == 3
        assert all(0 <= value <= 255 for value in mean)
        assert all(1 <= value <= 255 for value in std)
