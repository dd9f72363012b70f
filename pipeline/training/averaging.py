"""Averaged weights: a steadier network than the last step leaves behind."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class Average:
    """A moving average of a network's weights and buffers, batch norm's statistics among them.

    As in Polyak & Juditsky 1992, but forgetting: step t counts max(1 - decay, 1 / t). That is the
    mean of all steps at first, so that the weights as drawn leave no trace, and an exponential
    moving average as soon as there are 1 / (1 - decay) of them.

    Args:
        model: the network in training; its tensors must stay the same ones.
        decay: what a step keeps of the average before it.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay, self.steps = decay, 0
        own = [*self.model.parameters(), *self.model.buffers()]
        pairs = list(zip(own, [*model.parameters(), *model.buffers()], strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counted = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network as it is after a step; the device is not waited for."""
        self.steps += 1
        weight = max(1 - self.decay, 1 / self.steps)
        own, new = zip(*self._averaged, strict=True)
        torch._foreach_lerp_(own, new, weight)
        for count, newer in self._counted:
            count.copy_(newer)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, for a checkpoint."""
        return {"model": self.model.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.steps = int(state["steps"])
