"""Replace a model's standard convolutions by a variant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pipeline.convs import KernelConv, NormChain, closest_factors, make_conv
from pipeline.errors import ConfigError

_DIMENSIONS: dict[type[nn.Module], int] = {nn.Conv2d: 2, nn.Conv3d: 3}


@dataclass(frozen=True, slots=True)
class SwapReport:
    """What `swap_convs` did, by the convolutions' dotted paths.

    Attributes:
        replaced: path and, where the new factors were fitted to the old kernel, the relative
            error ||W - W'|| / ||W|| of the kernel that they compose to.
        kept: path and reason.
    """

    replaced: list[tuple[str, float | None]] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)


def swap_convs(
    model: nn.Module, conv: str, *, from_weights: bool = False, **options: Any
) -> SwapReport:
    """Replace, in place, every plain `nn.Conv2d` and `nn.Conv3d` below `model` by the variant.

    Channels, kernel size, stride, padding, dilation, bias, device and dtype stay. Grouped
    convolutions, other padding than zeros and subclasses with a computation of their own are
    kept. Nothing is replaced when one of the replacements cannot be made.

    Args:
        conv: the variant's name, as in `make_conv`.
        from_weights: start from the factors closest to each kernel instead of drawing them; the
            output's bias is taken over, inner biases start at zero.
        options: further arguments of `make_conv`.

    Raises:
        ConfigError: the variant has no such name or option, or cannot be fitted to a kernel.
    """
    report = SwapReport()
    new: dict[nn.Module, tuple[nn.Module, float | None]] = {}
    replacements: dict[str, nn.Module] = {}
    for path, old in _convs(model):
        reason = _reason_to_keep(path, old)
        if reason:
            report.kept.append((path, reason))
            continue
        if old not in new:
            new[old] = _replacement(old, conv, from_weights, options)
        replacements[path], error = new[old]
        report.replaced.append((path, error))
    for path, module in replacements.items():
        model.set_submodule(path, module)
    return report


def _convs(model: nn.Module) -> list[tuple[str, _ConvNd]]:
    """The convolutions that are not part of a variant already; shared ones under every path."""
    inside = [
        f"{path}."
        for path, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, KernelConv | NormChain)
    ]
    return [
        (path, module)
        for path, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, _ConvNd) and not path.startswith(tuple(inside))
    ]


def _reason_to_keep(path: str, conv: _ConvNd) -> str | None:
    if isinstance(conv, _ConvTransposeNd):
        return "transposed"
    if type(conv) not in _DIMENSIONS:
        return f"{type(conv).__name__}, not exactly nn.Conv2d or nn.Conv3d"
    if conv.groups != 1:
        return f"{conv.groups} groups"
    if conv.padding_mode != "zeros":
        return f"{conv.padding_mode} padding"
    if not path:
        return "the model itself, which cannot be replaced in place"
    return None


def _replacement(
    old: _ConvNd, name: str, from_weights: bool, options: dict[str, Any]
) -> tuple[nn.Module, float | None]:
    with old.weight.device:
        new = make_conv(
            name,
            old.in_channels,
            old.out_channels,
            old.kernel_size,
            dimensions=_DIMENSIONS[type(old)],
            stride=old.stride,
            padding=0 if old.padding == "valid" else old.padding,
            dilation=old.dilation,
            bias=old.bias is not None,
            **options,
        )
    new.to(old.weight.dtype).train(old.training).requires_grad_(old.weight.requires_grad)
    return new, _fit(new, name, old) if from_weights else None


@torch.no_grad()
def _fit(new: nn.Module, name: str, old: _ConvNd) -> float:
    """Set the factors closest to the old kernel, and the old bias; returns the relative error."""
    if not isinstance(new, KernelConv):
        raise ConfigError(
            f"CONV={name!r} has norms between its convolutions, so it cannot start from the "
            f"weights of a standard one; choose {name.removesuffix('-norm')}"
        )
    for parameter_name, parameter in new.named_parameters():
        if "bias" in parameter_name:
            parameter.zero_()
    if old.bias is not None and new.bias is not None:
        new.bias.copy_(old.bias)
    return closest_factors(new, old.weight)
