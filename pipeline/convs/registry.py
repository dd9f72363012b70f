"""The convolutions by name: what CONV accepts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from pipeline.convs.chains import NormChain
from pipeline.convs.conv import KernelConv
from pipeline.convs.factors import (
    Bottleneck,
    Bottleneck2,
    ChannelSelection,
    Separable,
    Subkernel,
)
from pipeline.errors import ConfigError

Conv = KernelConv | NormChain
Builder = Callable[..., Conv]


@wraps(ChannelSelection)
def _with_output_bias(*args: Any, **options: Any) -> ChannelSelection:
    return ChannelSelection(*args, **{**options, "bias": True})


_CONVS: dict[str, Builder] = {
    "subkernel": Subkernel,
    "channel-selection": ChannelSelection,
    "channel-selection-bias": _with_output_bias,
    "channel-selection-linear": partial(ChannelSelection, execution="linear"),
    "separable": Separable,
    "bottleneck": Bottleneck,
    "bottleneck2": Bottleneck2,
    "separable-norm": partial(NormChain, Separable),
    "bottleneck-norm": partial(NormChain, Bottleneck),
    "bottleneck2-norm": partial(NormChain, Bottleneck2),
}


def register_conv(name: str) -> Callable[[Builder], Builder]:
    """Decorator that makes a convolution available as CONV=`name`."""

    def add(build: Builder) -> Builder:
        if name in _CONVS:
            raise ConfigError(f"CONV={name!r} is already taken; choose another name")
        _CONVS[name] = build
        return build

    return add


def conv_names() -> list[str]:
    """Every name that CONV accepts."""
    return sorted(_CONVS)


def make_conv(name: str, *args: Any, **options: Any) -> Conv:
    """Build the convolution `name`; the arguments are those of `KernelConv`.

    Raises:
        ConfigError: no convolution has that name, or it cannot have such an argument.
    """
    if name not in _CONVS:
        raise ConfigError(f"CONV={name!r} is unknown; choose from {', '.join(conv_names())}")
    build = _CONVS[name]
    known = inspect.signature(build).parameters
    if unknown := [option for option in options if option not in known]:
        raise ConfigError(
            f"CONV={name!r} has no option {', '.join(unknown)}; choose from {', '.join(known)}"
        )
    return build(*args, **options)
