"""One kernel W[out, in, *k] as a product of at most three factors.

    W[o, i] = Σ expand[o, n] · core[n, m] · reduce[m, i]

A factor that is absent is the identity, and a depthwise core has entries for n = m only. Every
variant is such a product, so composing it, its chain of small convolutions and its biases are
written here once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.convs.geometry import Geometry, Place


class Step(NamedTuple):
    """One convolution of the chain: weight [out, in / groups, *k] and where its taps stand."""

    weight: Tensor
    bias: Tensor | None
    geometry: Geometry
    groups: int = 1

    @property
    def is_depthwise(self) -> bool:
        """Whether every channel is convolved alone, into one."""
        return self.groups == len(self.weight) > 1 == self.weight.shape[1]

    def __call__(self, x: Tensor) -> Tensor:
        return self.geometry.convolve(x, self.weight, self.bias, self.groups)


class Factors(NamedTuple):
    """The factors and biases of one convolution.

    Shapes: core [n, m, *k], or [n, 1, *k] if depthwise (then n = m); reduce [m, in];
    expand [out, n]; reduce_bias [m]; core_bias [n] (only ahead of an expand); bias [out].
    """

    core: Tensor
    geometry: Geometry
    reduce: Tensor | None = None
    expand: Tensor | None = None
    bias: Tensor | None = None
    reduce_bias: Tensor | None = None
    core_bias: Tensor | None = None
    depthwise: bool = False

    def weights(self) -> list[Tensor]:
        """The factors in the order in which the input meets them."""
        return [w for w in (self.reduce, self.core, self.expand) if w is not None]

    def compose(self) -> Tensor:
        """W [out, in, *k], channels last in memory; the core itself if it is the only factor."""
        if self.reduce is None and self.expand is None:
            return self.core
        core = self.core.movedim(1, -1)
        composed = self._compose_depthwise(core) if self.depthwise else self._compose_dense(core)
        return composed.movedim(-1, 1)

    def _compose_depthwise(self, core: Tensor) -> Tensor:
        """From [c, *k, 1] to [out, *k, in]; one of the two other factors is present."""
        spatial = (None,) * self.geometry.dimensions
        if self.expand is None:
            assert self.reduce is not None
            return core * self.reduce[:, *spatial]
        assert self.reduce is None
        return core.squeeze(-1).movedim(0, -1).contiguous() * self.expand[:, *spatial]

    def _compose_dense(self, core: Tensor) -> Tensor:
        """From [n, *k, m] to [out, *k, in]: two matrix products, the cheaper order."""
        assert self.reduce is not None
        assert self.expand is not None
        if len(self.expand) <= self.reduce.shape[1]:
            expanded: Tensor = torch.tensordot(self.expand, core, 1)
            return expanded @ self.reduce
        composed: Tensor = torch.tensordot(self.expand, core @ self.reduce, 1)
        return composed

    def compose_bias(self) -> Tensor | None:
        """What the biases add to an output whose taps all meet the image: [out]."""
        bias = self.bias
        if self.core_bias is not None and self.expand is not None:
            bias = _plus(self.expand @ self.core_bias, bias)
        if self.reduce_bias is not None:
            bias = _plus(self.reduce_share(self.reduce_bias).flatten(1).sum(1), bias)
        return bias

    def reduce_share(self, reduce_bias: Tensor) -> Tensor:
        """What the reduce's bias adds through each tap: [out, *k].

        It acts as one more input channel, of ones, which the core's padding surrounds by zeros.
        """
        return self._replace(reduce=reduce_bias[:, None]).compose().squeeze(1)

    def border(self, spatial: Sequence[int]) -> list[tuple[Place, Tensor]]:
        """Slices of the output where padding hides a share of the reduce's bias, and [out, ...]
        to add there to `compose_bias`; slices do not overlap."""
        if self.reduce_bias is None:
            return []
        share = self.reduce_share(self.reduce_bias)
        total = share.flatten(1).sum(1).view(-1, *[1] * self.geometry.dimensions)
        return [
            (place, _contract(share, inside) - total)
            for place, inside in self.geometry.border(spatial, share)
        ]

    def chain(self) -> list[Step]:
        """The same convolution as a chain of small ones; only the core's is spatial."""
        steps = []
        ones = (None,) * self.geometry.dimensions
        point = self.geometry.pointwise()
        if self.reduce is not None:
            steps.append(Step(self.reduce[:, :, *ones], self.reduce_bias, point))
        groups = len(self.core) if self.depthwise else 1
        core_bias = self.bias if self.expand is None else self.core_bias
        steps.append(Step(self.core, core_bias, self.geometry, groups))
        if self.expand is not None:
            steps.append(Step(self.expand[:, :, *ones], self.bias, point))
        return steps


def _plus(a: Tensor, b: Tensor | None) -> Tensor:
    return a if b is None else a + b


def _contract(share: Tensor, inside: list[Tensor]) -> Tensor:
    """[out, *k] with [k, n] per dimension to [out, *n]."""
    for matrix in inside:
        share = torch.tensordot(share, matrix, ([1], [0]))
    return share
