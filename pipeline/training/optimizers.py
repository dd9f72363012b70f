"""The optimisers by name. Weight decay is the same for all of them: decoupled, on weights only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pipeline.errors import ConfigError
from pipeline.models.depth import classifier_distances
from pipeline.models.pretrained import classifier_parameters
from pipeline.training import update_rules
from pipeline.training.muon import Muon, hidden_matrices

Groups = list[dict[str, Any]]


def make_optimizer(
    name: str,
    model: nn.Module,
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    classifier_apart: bool = False,
    layer_decay: float = 1.0,
) -> Optimizer:
    """The optimiser `name` over the parameters of `model` that learn.

    Its groups' `lr` is what a schedule scales.

    Args:
        name: one of `optimizer_names`.
        model: on the device where it trains.
        learning_rate: of every group; of the classifier's, where `layer_decay` is below 1.
        momentum: of SGD and Muon; the β₁ of Adam; RMSProp has none.
        weight_decay: decoupled from the gradient (Loshchilov and Hutter 2019, arXiv:1711.05101):
            w ← w · (1 - rate · decay) ahead of each update. Norms and biases do not decay.
        classifier_apart: in groups of its own, as it must be where it learns before the others do:
            a fused step takes no group of which some parameters have moved and others never.
        layer_decay: factor of the rate from each block to the one ahead of it (BEiT, Bao et al.
            2021, arXiv:2106.08254); below 1 every block is in groups of its own.

    Raises:
        ConfigError: no optimiser has that name.
    """
    if name not in _OPTIMIZERS:
        names = ", ".join(optimizer_names())
        raise ConfigError(f"optimizer={name!r} is unknown; choose from {names}")
    groups = _groups(model, weight_decay)
    if layer_decay < 1:
        groups = _by_distance(groups, model, learning_rate, layer_decay)
    elif classifier_apart:
        groups = _with_classifier_apart(groups, model)
    optimizer = _OPTIMIZERS[name](groups, learning_rate, momentum)
    optimizer.register_step_pre_hook(_decay)
    return optimizer


def optimizer_names() -> list[str]:
    """Every name that `make_optimizer` accepts."""
    return sorted(_OPTIMIZERS)


def _groups(model: nn.Module, decay: float) -> Groups:
    """Hidden matrices, other weights, norms and biases; those of the three that there are.

    The key is not torch's `weight_decay`, which SGD adds to the gradient.
    """
    hidden = hidden_matrices(model)
    groups: Groups = [
        {"params": [], "decoupled_decay": decay, "orthogonal": True},
        {"params": [], "decoupled_decay": decay, "orthogonal": False},
        {"params": [], "decoupled_decay": 0.0, "orthogonal": False},
    ]
    for parameter in model.parameters():
        if parameter.requires_grad:
            place = 0 if parameter in hidden else 1 if parameter.ndim > 1 else 2
            groups[place]["params"].append(parameter)
    return [group for group in groups if group["params"]]


def _with_classifier_apart(groups: Groups, model: nn.Module) -> Groups:
    """Each group in two: the classifier's parameters, and the backbone's."""
    of_classifier = classifier_parameters(model)
    split: Groups = []
    for group in groups:
        classifier = [p for p in group["params"] if p in of_classifier]
        backbone = [p for p in group["params"] if p not in of_classifier]
        split.append({**group, "params": classifier})
        split.append({**group, "params": backbone})
    return [group for group in split if group["params"]]


def _by_distance(groups: Groups, model: nn.Module, rate: float, layer_decay: float) -> Groups:
    """Each group in as many as it has blocks, the classifier's first, each with its own rate."""
    distances = classifier_distances(model)
    split: Groups = []
    for group in groups:
        for distance in sorted({distances[p] for p in group["params"]}):
            params = [p for p in group["params"] if distances[p] == distance]
            split.append({**group, "params": params, "lr": rate * layer_decay**distance})
    return split


@torch.no_grad()
def _decay(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Shrink the weights ahead of a step.

    A gradient scaler leaves it to a fused optimiser to skip a step whose gradients overflowed,
    and says so on the optimiser; such a step must not decay either.
    """
    overflowed = getattr(optimizer, "found_inf", None)
    for group in optimizer.param_groups:
        moving = [p for p in group["params"] if p.grad is not None]
        if moving and group["decoupled_decay"]:
            share = group["lr"] * group["decoupled_decay"]
            if overflowed is not None:
                share = share * (1 - overflowed)
            torch._foreach_mul_(moving, 1 - share)


def _sgd(groups: Groups, rate: float, momentum: float) -> Optimizer:
    return torch.optim.SGD(
        groups, lr=rate, momentum=momentum, nesterov=momentum > 0, weight_decay=0, fused=True
    )


def _adam(groups: Groups, rate: float, momentum: float) -> Optimizer:
    return torch.optim.Adam(groups, lr=rate, betas=(momentum, 0.999), weight_decay=0, fused=True)


def _rule(rule: type[update_rules.UpdateRule]) -> Callable[[Groups, float, float], Optimizer]:
    return lambda groups, rate, momentum: rule(groups, lr=rate, momentum=momentum)


_OPTIMIZERS: dict[str, Callable[[Groups, float, float], Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adam,  # with decoupled decay they are the same; both names are in use
    "muon": _rule(Muon),
    "nntrain-momentum": _rule(update_rules.Momentum),
    "nntrain-averaged-momentum": _rule(update_rules.AveragedMomentum),
    "nntrain-rmsprop": _rule(update_rules.RMSProp),
    "nntrain-adam": _rule(update_rules.Adam),
}
