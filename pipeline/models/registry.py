"""The networks by name: what MODEL accepts."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from pipeline.errors import ConfigError
from pipeline.models.resnet14 import ResNet14

# Each entry takes (conv name, input channels, number of classes, dropout).
_MODELS: dict[str, Callable[[str, int, int, float], nn.Module]] = {"resnet14": ResNet14}


def model_names() -> list[str]:
    """Every name that MODEL accepts."""
    return sorted(_MODELS)


def make_model(name: str, conv: str, in_channels: int, classes: int, dropout: float) -> nn.Module:
    """Build the network `name` for images [N, in_channels, H, W] and logits [N, classes].

    Raises:
        ConfigError: the network or the convolution has no such name.
    """
    if name not in _MODELS:
        raise ConfigError(f"MODEL={name!r} is unknown; choose from {', '.join(model_names())}")
    return _MODELS[name](conv, in_channels, classes, dropout)
