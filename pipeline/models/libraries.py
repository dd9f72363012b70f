"""torchvision's ResNets and every timm model by name, their convolutions swapped."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torchvision
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from pipeline.errors import ConfigError
from pipeline.models.normalisation import Normalisation
from pipeline.models.pretrained import load_weights
from pipeline.models.swap import swap_convs

TIMM_PREFIX = "timm/"
CLASSES = 1000
_DEFAULT_SHAPE = (3, 224, 224)
_STANDARD_CONV = "subkernel"
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"dynamic_img_size": True},
    {},
)


def is_library_model(name: str) -> bool:
    """Whether torchvision has a ResNet of that name, or timm a model."""
    return is_torchvision_model(name) or _is_timm_model(timm_name(name))


def _is_timm_model(name: str) -> bool:
    if not timm.is_model(name):
        return False
    try:
        timm.models.get_pretrained_cfg(name)
    except RuntimeError:  # weights, which stand behind a dot, that this architecture does not have
        return False
    return True


def close_names(name: str) -> list[str]:
    """The timm models whose names resemble `name`, best first."""
    names = timm.list_pretrained() if "." in name else timm.list_models()
    return get_close_matches(timm_name(name), names, n=5)


def library_shape(name: str) -> tuple[int, ...]:
    """The image (C, H, W) that the model was designed for."""
    if is_torchvision_model(name):
        return _DEFAULT_SHAPE
    config = timm.models.get_pretrained_cfg(timm_name(name))
    return tuple(config.input_size) if config else _DEFAULT_SHAPE


def library_normalisation(name: str) -> Normalisation:
    """What the library's published weights of the model were trained with."""
    config = None
    if not is_torchvision_model(name):
        config = timm.models.get_pretrained_cfg(timm_name(name))
    mean = config.mean if config else IMAGENET_DEFAULT_MEAN
    std = config.std if config else IMAGENET_DEFAULT_STD
    return Normalisation(tuple(255 * value for value in mean), tuple(255 * value for value in std))


def build_library_model(
    name: str,
    conv: str,
    in_channels: int,
    classes: int,
    dropout: float,
    weights: Path | None = None,
) -> nn.Module:
    """The model `name` with its convolutions swapped for `conv`.

    It is freshly drawn, or starts from the library's own weights in a file. `subkernel` leaves
    the library's own convolutions, initialisation and parameter names.
    """
    net = standard_library_model(name, in_channels, classes, dropout)
    if weights:
        load_weights(net, weights)
    if conv != _STANDARD_CONV:
        swap_convs(net, conv, from_weights=weights is not None)
    return net


def standard_library_model(name: str, in_channels: int, classes: int, dropout: float) -> nn.Module:
    """The freshly drawn model `name` as its library makes it, for other channels and classes."""
    if is_torchvision_model(name):
        return _torchvision_resnet(name, in_channels, classes, dropout)
    return _timm_model(
        timm_name(name), in_chans=in_channels, num_classes=classes, drop_rate=dropout
    )


def _torchvision_resnet(name: str, in_channels: int, classes: int, dropout: float) -> nn.Module:
    net = torchvision.models.get_model(name, weights=None, num_classes=classes)
    if in_channels != net.conv1.in_channels:
        net.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    # Dropout not ahead of `fc` in a module of their own: parameter names stay torchvision's.
    net.avgpool = nn.Sequential(net.avgpool, nn.Dropout(dropout))
    return net  # type: ignore[no-any-return]


def _timm_model(name: str, **options: Any) -> nn.Module:
    """For images of any size where the architecture can take them.

    Raises:
        ConfigError: it has no dropout or no classes to choose, as timm's encoders have not.
    """
    for any_size in _ANY_SIZE:
        try:
            network: nn.Module = timm.create_model(name, **options, **any_size)
        except TypeError as err:  # raised at once by the families that lack an option
            if not any(option in str(err) for option in any_size):
                raise ConfigError(f"timm's {name} is no classifier ({err})") from err
        else:
            return network
    raise AssertionError("no options at all cannot be the wrong ones")


def is_torchvision_model(name: str) -> bool:
    """Whether it is torchvision's: its ResNets go before timm's of the same name."""
    found: dict[str, Any] = vars(torchvision.models.resnet)
    return name in torchvision.models.list_models(torchvision.models) and name in found


def timm_name(name: str) -> str:
    """The name as timm knows it."""
    return name.removeprefix(TIMM_PREFIX)
