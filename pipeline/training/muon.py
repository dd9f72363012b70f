"""Muon: momentum whose matrices are made orthogonal before the step; Adam for all the rest.

Keller Jordan 2024, https://kellerjordan.github.io/posts/muon/; one rate and one decay for both
halves as in Liu et al. 2025, "Muon is Scalable for LLM Training", arXiv:2502.16982. torch's own
takes 2-D parameters only, and convolution kernels are no such.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim.adam import adam

from pipeline.convs import KernelConv, NormChain
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
_LAYERS = (nn.Linear, _ConvNd, KernelConv, NormChain)

Kind = TypeVar("Kind", bound=Hashable)


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
    iterated, at the matrix's shorter side. Matrices of one shape, and gram matrices of one side,
    go through together: most are so small that calls count, not multiplications.
    """
    by_shape = _places(matrix.shape for matrix in matrices)
    wide = []
    for shape, places in by_shape.items():
        stack = torch.stack([matrices[place] for place in places])
        wide.append(_of_norm_one(stack if _is_wide(shape) else stack.mT))
    for numbers in _places(stack.shape[1] for stack in wide).values():
        grams = torch.cat([wide[number] @ wide[number].mT for number in numbers])
        factors = _newton_schulz(grams).split([len(wide[number]) for number in numbers])
        for number, factor in zip(numbers, factors, strict=True):
            wide[number] = factor @ wide[number]
    found: dict[int, Tensor] = {}
    for (shape, places), stack in zip(by_shape.items(), wide, strict=True):
        upright = stack if _is_wide(shape) else stack.mT
        found |= zip(places, upright.contiguous(), strict=True)
    return [found[place] for place in range(len(matrices))]


def _places(kinds: Iterable[Kind]) -> dict[Kind, list[int]]:
    """Where each kind stands."""
    places: dict[Kind, list[int]] = defaultdict(list)
    for place, kind in enumerate(kinds):
        places[kind].append(place)
    return places


def _of_norm_one(stack: Tensor) -> Tensor:
    norms = torch.linalg.matrix_norm(stack, keepdim=True).clamp(min=SMALLEST_NORM)
    return F.hardshrink(stack / norms, SMALLEST_ENTRY)


def _newton_schulz(gram: Tensor) -> Tensor:
    """What makes matrices X of gram matrices X Xᵀ, [n, side, side], orthogonal: times X."""
    step = _polynomial(gram)
    factor = step
    for _ in range(ITERATIONS - 1):
        gram = step @ gram @ step
        step = _polynomial(gram)
        factor = step @ factor
    return factor


def _polynomial(gram: Tensor) -> Tensor:
    a, b, c = COEFFICIENTS
    result = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    result.diagonal(dim1=-2, dim2=-1).add_(a)
    return result


def _is_wide(shape: torch.Size) -> bool:
    return shape[0] <= shape[1]


def hidden_matrices(model: nn.Module) -> set[nn.Parameter]:
    """The weights that map hidden channels to hidden channels: those that Muon is for.

    Not the first and the last layer's, which meet pixels and classes, not depthwise filters, which
    map no channel to another, and not what is no layer's, such as tokens and tables of positions.
    """
    layers = [part for part in model.modules() if isinstance(part, _LAYERS)]
    weights = {p for layer in layers for p in layer.parameters() if p.ndim > 1}
    hidden = {p for p in weights if p.requires_grad and min(p.shape[:2]) > 1}
    ends = {p for layer in (layers[:1] + layers[-1:]) for p in layer.parameters()}
    return hidden - ends - classifier_parameters(model)
