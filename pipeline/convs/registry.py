"""The convolutions by name: what CONV accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.convs.factors import KernelConv2d

_CONVS: dict[str, type[KernelConv2d]] = {}
Conv = TypeVar("Conv", bound="type[KernelConv2d]")


def register_conv(name: str) -> Callable[[Conv], Conv]:
    """Class decorator that makes a convolution available as CONV=`name`."""

    def add(kind: Conv) -> Conv:
        if name in _CONVS:
            raise ValueError(f"conv {name!r} is already {_CONVS[name].__qualname__}")
        _CONVS[name] = kind
        return kind

    return add


def conv_names() -> list[str]:
    """Every name that CONV accepts."""
    return sorted(_CONVS)


def make_conv(name: str, *args: Any, **options: Any) -> KernelConv2d:
    """Build the convolution `name`; the arguments are those of `KernelConv2d`.

    Raises:
        ConfigError: no convolution has that name.
    """
    if name not in _CONVS:
        raise ConfigError(f"CONV={name!r} is unknown; choose from {', '.join(conv_names())}")
    return _CONVS[name](*args, **options)
