"""Muon: momentum whose matrices are made orthogonal before the step; Adam for all the rest.

Keller Jordan 2024, https://kellerjordan.github.io/posts/muon/; one rate and one decay for both
halves as in Liu et al. 2025, "Muon is Scalable for LLM Training", arXiv:2502.16982. torch's own
takes 2-D parameters only, and convolution kernels are no such.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.training.update_rules import UpdateRule, first_moments, moments

SQUARE_DECAY = 0.999
EPSILON = 1e-8
# Drives singular values into 0.7 to 1.2 in five iterations, from anywhere above 0.003.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# A semi-orthogonal matrix has entries of root mean square 1 / √longer side, Adam's update 0.2.
ADAM_RMS = 0.2


class Muon(UpdateRule):
    """Muon with Nesterov momentum for groups that say `orthogonal`, Adam for the others.

    The momentum is Adam's β₁, too; β₂ is 0.999 and ε 1e-8, as in torch.
    """

    def first_state(self, gradient: Tensor) -> dict[str, Tensor]:
        return first_moments(gradient)

    def updates(
        self, gradients: list[Tensor], state: dict[str, list[Tensor]], group: dict[str, Any]
    ) -> list[Tensor]:
        if group["orthogonal"]:
            return self._orthogonal(gradients, state["average"], group["momentum"])
        averages, squares = moments(gradients, state, group["momentum"], SQUARE_DECAY)
        torch._foreach_sqrt_(squares)
        torch._foreach_add_(squares, EPSILON)
        torch._foreach_div_(averages, squares)
        return averages

    @staticmethod
    def _orthogonal(
        gradients: list[Tensor], averages: list[Tensor], momentum: float
    ) -> list[Tensor]:
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        ahead = list(torch._foreach_lerp(gradients, averages, momentum))
        alike: dict[torch.Size, list[int]] = defaultdict(list)
        for place, update in enumerate(ahead):
            alike[update.shape].append(place)
        for places in alike.values():
            stacked = torch.stack([ahead[place].flatten(1) for place in places])
            scale = ADAM_RMS * math.sqrt(max(stacked.shape[1:]))
            for place, update in zip(places, scale * orthogonalise(stacked), strict=True):
                ahead[place] = update.view_as(ahead[place])
        return ahead


def orthogonalise(matrices: Tensor) -> Tensor:
    """Roughly U Vᵀ for matrices U S Vᵀ, [n, rows, columns], by Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).to(_number_format(matrices))
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


def _number_format(matrices: Tensor) -> torch.dtype:
    """bf16, as published, where a GPU has it; most processors would emulate it, much slower."""
    native = matrices.is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def hidden_matrices(model: nn.Module) -> set[nn.Parameter]:
    """The weights that map hidden channels to hidden channels: those that Muon is for.

    Not the first and the last weight, which meet pixels and classes, and not depthwise filters,
    which map no channel to another.
    """
    weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    return {p for p in weights[1:-1] if min(p.shape[:2]) > 1}
