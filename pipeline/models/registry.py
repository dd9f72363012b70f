"""The networks by name: what MODEL accepts.

Modules are imported when their network is asked for: torchvision and timm take seconds, and a
notebook carries the one network that it trains.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.models.compose import compose_kernels
from pipeline.models.normalisation import Normalisation, stored_normalisation
from pipeline.models.pretrained import load_weights

_LIBRARIES = "pipeline.models.libraries"
_IMAGE_RANK = 3


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a network is defined, and what it was published for.

    The target is "module:callable" of (conv name, input channels, classes, dropout).
    """

    target: str
    shape: tuple[int, ...]
    classes: int


_MODELS = {
    "resnet14": _Entry("pipeline.models.resnet14:ResNet14", (3, 32, 32), 3),
    "resnet14x2": _Entry("pipeline.models.resnet14:resnet14x2", (3, 32, 32), 3),
    "resnet14x4": _Entry("pipeline.models.resnet14:resnet14x4", (3, 32, 32), 3),
    "resnet-nntrain": _Entry("pipeline.models.nntrain:ResNetNNTrain", (1, 28, 28), 10),
    "nntrain-cnn": _Entry("pipeline.models.nntrain:NNTrainCNN", (1, 28, 28), 10),
    "nntrain-cnn-deep": _Entry("pipeline.models.nntrain:NNTrainDeepCNN", (1, 28, 28), 10),
    "mnist-net": _Entry("pipeline.models.mnist_net:MnistNet", (1, 28, 28), 10),
    "vbnet": _Entry("pipeline.models.vbnet:VBNet", (1, 32, 128, 128), 1),
    "conv-layer3d": _Entry("pipeline.models.layer3d:ConvLayer3d", (16, 32, 32, 32), 32),
}


def model_names() -> list[str]:
    """The project's own networks; MODEL also accepts torchvision's ResNets and timm's names."""
    return sorted(_MODELS)


def make_model(
    name: str,
    conv: str,
    in_channels: int,
    classes: int,
    dropout: float,
    weights: Path | None = None,
) -> nn.Module:
    """Build the network `name` for images [N, in_channels, H, W] and logits [N, classes].

    `timm/<name>` is timm's where torchvision has the name too. For the 3D networks, which are
    no classifiers, the input is [N, in_channels, D, H, W] and the output [N, classes, D, H, W].

    `weights` is a safetensors file to start from. A library's model takes them before its
    convolutions are swapped, and the new ones start closest to the old; an own network takes
    those of the same convolution.

    Raises:
        ConfigError: the network or the convolution has no such name.
        DataError: the weights are another network's.
    """
    if name not in _MODELS:
        library = _library(name)
        net: nn.Module = library.build_library_model(
            name, conv, in_channels, classes, dropout, weights
        )
        return net
    module, _, attribute = _MODELS[name].target.partition(":")
    net = getattr(importlib.import_module(module), attribute)(conv, in_channels, classes, dropout)
    if weights:
        load_weights(net, weights)
    return net


def weights_normalisation(name: str, weights: Path, channels: int) -> Normalisation | None:
    """What the weights of the network `name` were trained with; None: nothing says it.

    The file's own word goes before its library's.

    Raises:
        ConfigError: no network has that name.
        DataError: the file is damaged, or its normalisation is none.
    """
    found: Normalisation | None = stored_normalisation(weights)
    if found is None and name not in _MODELS:
        found = _library(name).library_normalisation(name)
    return found and found.for_channels(channels)


def check_classifier(name: str) -> None:
    """Make sure that `name` is a network that classifies images; nothing is built.

    Raises:
        ConfigError: no network has that name, or its input is no image.
    """
    if len(example_shape(name)) != _IMAGE_RANK:
        classifiers = [own for own in model_names() if len(_MODELS[own].shape) == _IMAGE_RANK]
        raise ConfigError(
            f"MODEL={name!r} takes volumes, not images, and is here for summary and profile "
            f"only; train one of {', '.join(classifiers)}, a torchvision ResNet or a timm model"
        )


def check_images(name: str, shape: tuple[int, int, int]) -> None:
    """Make sure that the network classifies images of `shape` (C, H, W); nothing is computed.

    Raises:
        ConfigError: it has no such name, was made for larger or for other images, or gives no
            logits, as timm's encoders do not.
    """
    check_classifier(name)
    channels, height, width = shape
    with torch.device("meta"):
        network = make_model(name, "subkernel", channels, classes=2, dropout=0.0)
        images = torch.empty(2, *shape)
    try:
        logits = compose_kernels(network).eval()(images)
    except NotImplementedError:
        return  # an operation without a meta form: only the real run can tell
    except (AssertionError, RuntimeError, ValueError) as err:
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise ConfigError(
            f"MODEL={name!r} cannot take {channels} x {height} x {width} images ({reason}); it was "
            f"made for {' x '.join(map(str, example_shape(name)))}: choose SIZE, or size in the "
            "competition's definition, or another network"
        ) from err
    if logits.shape != (2, 2):
        raise ConfigError(
            f"MODEL={name!r} is no classifier: for 2 images and 2 classes it gives "
            f"{' x '.join(map(str, logits.shape))} numbers; choose another network"
        )


def model_module(name: str) -> str:
    """The dotted name of the module that defines the network `name`.

    Raises:
        ConfigError: no network has that name.
    """
    if name in _MODELS:
        return _MODELS[name].target.partition(":")[0]
    _library(name)
    return _LIBRARIES


def example_shape(name: str) -> tuple[int, ...]:
    """The input that the network was published with, without the batch: (channels, *sides).

    Raises:
        ConfigError: no network has that name.
    """
    if name in _MODELS:
        return _MODELS[name].shape
    return _library(name).library_shape(name)  # type: ignore[no-any-return]


def example_classes(name: str) -> int:
    """The number of classes that the network was published with.

    Raises:
        ConfigError: no network has that name.
    """
    if name in _MODELS:
        return _MODELS[name].classes
    return _library(name).CLASSES  # type: ignore[no-any-return]


def _library(name: str) -> Any:
    """The module `libraries`, once it knows `name`."""
    libraries = importlib.import_module(_LIBRARIES)
    if libraries.is_library_model(name):
        return libraries
    close = libraries.close_names(name)
    meant = f"; did you mean timm's {', '.join(close)}?" if close else ""
    raise ConfigError(
        f"MODEL={name!r} is unknown; choose from {', '.join(model_names())}, "
        f"resnet18 and torchvision's other ResNets, or any timm model{meant}"
    )
