"""Update rules of nntrain, written out: they differ from torch's, and their rates belong to them.

Each starts its averages at other values than torch does, or keeps Adam's epsilon inside the root.
Every rule is w ← w - learning rate · update(g), elementwise, on lists of tensors at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

SQUARE_DECAY = 0.99
EPSILON = 1e-5


class UpdateRule(Optimizer):
    """An optimiser given by what it keeps per parameter and what it makes of a gradient.

    Args:
        params: parameters, or groups of them.
        lr: the rate of groups that name none.
        momentum: the coefficient of the gradients' running average, the β₁ of Adam.
    """

    def __init__(
        self, params: Iterable[Tensor] | Iterable[dict[str, Any]], *, lr: float, momentum: float
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def first_state(self, gradient: Tensor) -> dict[str, Tensor]:
        """What is kept of one parameter, as it is ahead of its first gradient."""
        raise NotImplementedError

    def updates(
        self, gradients: list[Tensor], state: dict[str, list[Tensor]], group: dict[str, Any]
    ) -> list[Tensor]:
        """The directions of one step; moves `state`, which has a list per name, in place."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step; returns what `closure`, if given, computes first: the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self.step_group(parameters, self._gather(parameters), group)
        return loss

    def step_group(
        self, parameters: list[Tensor], state: dict[str, list[Tensor]], group: dict[str, Any]
    ) -> None:
        """Move the parameters of a group, all of which have gradients, and their state."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        updates = self.updates(gradients, state, group)
        # Not add(alpha=-lr): a rate that is a tensor stays on its device.
        torch._foreach_sub_(parameters, torch._foreach_mul(updates, group["lr"]))

    def _gather(self, parameters: list[Tensor]) -> dict[str, list[Tensor]]:
        for parameter in parameters:
            if parameter not in self.state:
                assert parameter.grad is not None
                self.state[parameter] = self.first_state(parameter.grad)
        names = self.state[parameters[0]]
        return {name: [self.state[p][name] for p in parameters] for name in names}


class Momentum(UpdateRule):
    """a ← βa + g, from a = 0; update a. The same as torch's SGD without Nesterov."""

    def first_state(self, gradient: Tensor) -> dict[str, Tensor]:
        return {"velocity": torch.zeros_like(gradient)}

    def updates(
        self, gradients: list[Tensor], state: dict[str, list[Tensor]], group: dict[str, Any]
    ) -> list[Tensor]:
        torch._foreach_mul_(state["velocity"], group["momentum"])
        torch._foreach_add_(state["velocity"], gradients)
        return state["velocity"]


class AveragedMomentum(UpdateRule):
    """a ← βa + (1 - β)g, from a = 0; update a.

    torch's SGD with dampening starts at a = g: its first step is 1 / (1 - β) times as long.
    """

    def first_state(self, gradient: Tensor) -> dict[str, Tensor]:
        return {"average": torch.zeros_like(gradient)}

    def updates(
        self, gradients: list[Tensor], state: dict[str, list[Tensor]], group: dict[str, Any]
    ) -> list[Tensor]:
        torch._foreach_lerp_(state["average"], gradients, 1 - group["momentum"])
        return state["average"]


class RMSProp(UpdateRule):
    """s ← 0.99s + 0.01g², from s = g²; update g / (√s + 1e-5). It has no momentum.

    torch starts at s = 0: its first step is ten times as long.
    """

    def first_state(self, gradient: Tensor) -> dict[str, Tensor]:
        return {"square": gradient.square()}

    def updates(
        self, gradients: list[Tensor], state: dict[str, list[Tensor]], group: dict[str, Any]
    ) -> list[Tensor]:
        squares = torch._foreach_mul(gradients, gradients)
        torch._foreach_lerp_(state["square"], squares, 1 - SQUARE_DECAY)
        roots = torch._foreach_sqrt(state["square"])
        torch._foreach_add_(roots, EPSILON)
        return list(torch._foreach_div(gradients, roots))


class Adam(UpdateRule):
    """a ← βa + (1 - β)g and s ← 0.99s + 0.01g², from 0; update â / √(ŝ + 1e-5).

    The hats correct the bias: divided by 1 - βᵗ and 1 - 0.99ᵗ. torch has √ŝ + ε: with gradients
    well below √1e-5 ≈ 0.003 this rule takes steps that shrink with them, torch's do not.
    """

    def first_state(self, gradient: Tensor) -> dict[str, Tensor]:
        return first_moments(gradient)

    def updates(
        self, gradients: list[Tensor], state: dict[str, list[Tensor]], group: dict[str, Any]
    ) -> list[Tensor]:
        averages, squares = moments(gradients, state, group["momentum"], SQUARE_DECAY)
        torch._foreach_add_(squares, EPSILON)
        torch._foreach_sqrt_(squares)
        torch._foreach_div_(averages, squares)
        return averages


def first_moments(gradient: Tensor) -> dict[str, Tensor]:
    """The state of one parameter that `moments` moves."""
    return {
        "average": torch.zeros_like(gradient),
        "square": torch.zeros_like(gradient),
        "steps": torch.zeros((), device=gradient.device),
    }


def moments(
    gradients: list[Tensor],
    state: dict[str, list[Tensor]],
    average_decay: float,
    square_decay: float,
) -> tuple[list[Tensor], list[Tensor]]:
    """Running averages of the gradients and of their squares, as new tensors without bias.

    The count of steps is a tensor: a captured graph or a compiled step counts on.
    """
    torch._foreach_add_(state["steps"], 1)
    torch._foreach_lerp_(state["average"], gradients, 1 - average_decay)
    torch._foreach_lerp_(
        state["square"], torch._foreach_mul(gradients, gradients), 1 - square_decay
    )
    return (
        _without_bias(state["average"], state["steps"], average_decay),
        _without_bias(state["square"], state["steps"], square_decay),
    )


def _without_bias(averages: list[Tensor], steps: list[Tensor], decay: float) -> list[Tensor]:
    shares = torch._foreach_pow(decay, steps)
    torch._foreach_neg_(shares)
    torch._foreach_add_(shares, 1)
    return list(torch._foreach_div(averages, shares))
