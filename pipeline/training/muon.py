"""Muon: momentum whose matrices are made orthogonal before the step; Adam for all the rest.

Keller Jordan 2024, https://kellerjordan.github.io/posts/muon/; one rate and one decay for both
halves as in Liu et al. 2025, "Muon is Scalable for LLM Training", arXiv:2502.16982. torch's own
takes 2-D parameters only, and convolution kernels are no such.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim.adam import adam

from pipeline.convs import KernelConv
from pipeline.models.pretrained import classifier_parameters
from pipeline.training.update_rules import UpdateRule, first_moments

SQUARE_DECAY = 0.999
EPSILON = 1e-8
# Drives singular values into 0.7 to 1.2 in five iterations, from anywhere above 0.003.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
SMALLEST_NORM = 1e-7
# Of an entry, where the norm is 1. The momentum of a channel that died falls for ever, and products
# of smaller numbers are subnormal: a processor takes ten to a hundred times as long for those.
SMALLEST_ENTRY = 1e-18
# A semi-orthogonal matrix has entries of root mean square 1 / √longer side, Adam's update 0.2.
ADAM_RMS = 0.2
_LAYERS = (nn.Linear, _ConvNd, KernelConv)


class Muon(UpdateRule):
    """Muon with Nesterov momentum for groups that say `orthogonal`, Adam for the others.

    The momentum is Adam's β₁, too; β₂ is 0.999 and ε 1e-8, as in torch.
    """

    def first_state(self, gradient: Tensor) -> dict[str, Tensor]:
        return first_moments(gradient)

    def step_group(
        self, parameters: list[Tensor], state: dict[str, list[Tensor]], group: dict[str, Any]
    ) -> None:
        if group["orthogonal"]:
            super().step_group(parameters, state, group)
            return
        adam(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            state["average"],
            state["square"],
            [],
            state["steps"],
            fused=True,
            amsgrad=False,
            beta1=group["momentum"],
            beta2=SQUARE_DECAY,
            lr=group["lr"],
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    def updates(
        self, gradients: list[Tensor], state: dict[str, list[Tensor]], group: dict[str, Any]
    ) -> list[Tensor]:
        torch._foreach_lerp_(state["average"], gradients, 1 - group["momentum"])
        ahead = list(torch._foreach_lerp(gradients, state["average"], group["momentum"]))
        matrices = orthogonalise([update.flatten(1) for update in ahead])
        scales = [ADAM_RMS * math.sqrt(max(matrix.shape)) for matrix in matrices]
        torch._foreach_mul_(matrices, scales)
        return [matrix.view_as(update) for matrix, update in zip(matrices, ahead, strict=True)]


def orthogonalise(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Roughly U Vᵀ for each matrix U S Vᵀ, by Newton-Schulz iteration.

    Each iterate is the matrix times a polynomial of its gram matrix. Only that polynomial is
    iterated, at the matrix's shorter side, and those of the same side go through together.
    """
    wide = [matrix if _is_wide(matrix) else matrix.mT for matrix in matrices]
    wide = [matrix / matrix.norm().clamp(min=SMALLEST_NORM) for matrix in wide]
    wide = [F.hardshrink(matrix, SMALLEST_ENTRY) for matrix in wide]
    alike: dict[int, list[int]] = defaultdict(list)
    for place, matrix in enumerate(wide):
        alike[len(matrix)].append(place)
    for places in alike.values():
        factors = _newton_schulz(torch.stack([wide[place] @ wide[place].mT for place in places]))
        for place, factor in zip(places, factors, strict=True):
            wide[place] = factor @ wide[place]
    return [
        (matrix if _is_wide(given) else matrix.mT).contiguous()
        for matrix, given in zip(wide, matrices, strict=True)
    ]


def _newton_schulz(gram: Tensor) -> Tensor:
    """What makes matrices X of gram matrices X Xᵀ, [n, side, side], orthogonal: times X."""
    a, b, c = COEFFICIENTS
    factor = torch.eye(gram.shape[-1], device=gram.device, dtype=gram.dtype).expand_as(gram)
    for _ in range(ITERATIONS):
        step = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        factor, gram = step @ factor, step @ gram @ step
    return factor


def _is_wide(matrix: Tensor) -> bool:
    return matrix.shape[0] <= matrix.shape[1]


def hidden_matrices(model: nn.Module) -> set[nn.Parameter]:
    """The weights that map hidden channels to hidden channels: those that Muon is for.

    Not the first and the last layer's, which meet pixels and classes, not depthwise filters, which
    map no channel to another, and not what is no layer's, such as tokens and tables of positions.
    """
    layers = [part for part in model.modules() if isinstance(part, _LAYERS)]
    weights = [p for layer in layers for p in layer.parameters(recurse=False) if p.ndim > 1]
    learning = [p for p in weights if p.requires_grad]
    hidden = {p for p in learning[1:-1] if min(p.shape[:2]) > 1}
    return hidden - classifier_parameters(model)
