"""The weights that torchvision and timm publish for their models; needs a network."""

from __future__ import annotations

import timm
import torchvision
from torch import Tensor

from pipeline.errors import ConfigError, HostError
from pipeline.models.libraries import is_library_model, is_torchvision_model, timm_name


def published_weights(model: str) -> dict[str, Tensor]:
    """The state of `model` as its library publishes it, downloaded or from its own cache.

    Raises:
        ConfigError: nobody publishes weights for it.
        HostError: they cannot be downloaded.
    """
    if not is_library_model(model):
        raise ConfigError(
            f"MODEL={model!r} has no published weights; give WEIGHTS=<a .safetensors file>"
        )
    try:
        if is_torchvision_model(model):
            net = torchvision.models.get_model(model, weights="DEFAULT")
        else:
            net = timm.create_model(_with_weights(timm_name(model)), pretrained=True)
    except OSError as err:  # also what requests, urllib and the hub's client raise
        reason = (str(err).splitlines() or [type(err).__name__])[0]
        raise HostError(
            f"the weights of {model} cannot be downloaded ({reason}); rerun with a network, or "
            "give WEIGHTS=<a .safetensors file>"
        ) from err
    return {key: value.clone() for key, value in net.state_dict().items()}


def _with_weights(name: str) -> str:
    """The timm name itself.

    Raises:
        ConfigError: timm has no weights for it.
    """
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        tags = timm.list_pretrained(f"{name}*")[:3]
        choices = f"; it has for {', '.join(tags)}" if tags else ""
        raise ConfigError(f"timm publishes no weights for MODEL={name!r}{choices}")
    return name
