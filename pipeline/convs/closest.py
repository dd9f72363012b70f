"""Start a variant from a given kernel: the factors that compose closest to it."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.convs.conv import KernelConv
from pipeline.convs.kernel import Factors
from pipeline.errors import ConfigError

_SWEEPS = 10


@torch.no_grad()
def closest_factors(conv: KernelConv, weight: Tensor) -> float:
    """Set the factors of `conv` so that its kernel W' is near `weight` in least squares.

    Exactly the nearest for a depthwise core: there every slice of the kernel along one channel
    axis is a matrix of rank one, so its first singular pair is the answer (Eckart and Young
    1936). For a dense core the truncated HOSVD of the two channel axes, improved by orthogonal
    iteration (De Lathauwer et al. 2000), which finds a local optimum. Biases stay as they are.

    Args:
        weight: [out, in, *k].

    Returns:
        The relative error ||weight - W'|| / ||weight||; 0 if weight is 0.

    Raises:
        ConfigError: the weight has another shape than the kernel.
    """
    shape = conv.out_channels, conv.in_channels, *conv.kernel_size
    if weight.shape != shape:
        raise ConfigError(f"a weight of shape {tuple(weight.shape)}: this kernel has {shape}")
    target = weight.detach().double()
    factors = conv.factors()
    if len(factors.weights()) == 1:
        factors.core.copy_(target)
    elif factors.depthwise:
        _set_rank_one(factors, target)
    else:
        _set_tucker(factors, target)
    norm = target.norm()
    return float((target - conv.weight()).norm() / norm) if norm > 0 else 0.0


def _set_rank_one(factors: Factors, target: Tensor) -> None:
    """One singular pair per output channel (reduce) or per input channel (expand)."""
    slices = target if factors.expand is None else target.transpose(0, 1)
    left, values, right = torch.linalg.svd(slices.flatten(2), full_matrices=False)
    scale = values[:, :1].sqrt()
    channels, taps = left[:, :, 0] * scale, right[:, 0] * scale
    factors.core.copy_(taps.reshape(factors.core.shape))
    if factors.reduce is not None:
        factors.reduce.copy_(channels)
    if factors.expand is not None:
        factors.expand.copy_(channels.T)


def _set_tucker(factors: Factors, target: Tensor) -> None:
    assert factors.reduce is not None
    assert factors.expand is not None
    cube = target.flatten(2)
    ranks = [min(factors.expand.shape[1], len(cube)), min(len(factors.reduce), cube.shape[1])]
    inputs = _basis(cube.transpose(0, 1), ranks[1])
    for _ in range(_SWEEPS):
        outputs = _basis(torch.einsum("oik,im->omk", cube, inputs), ranks[0])
        inputs = _basis(torch.einsum("oik,on->ink", cube, outputs), ranks[1])
    core = torch.einsum("oik,on,im->nmk", cube, outputs, inputs)
    # Where the layer is wider inside than the kernel's rank, a zero core leaves the rest of the
    # drawn factors without effect, yet free to learn.
    factors.core.zero_()
    factors.core[: ranks[0], : ranks[1]] = core.unflatten(2, target.shape[2:]).to(factors.core)
    factors.expand[:, : ranks[0]] = outputs.to(factors.expand)
    factors.reduce[: ranks[1]] = inputs.T.to(factors.reduce)


def _basis(unfolded: Tensor, rank: int) -> Tensor:
    """The `rank` leading left singular vectors of a tensor unfolded along its first axis."""
    matrix = unfolded.flatten(1)
    # The Gram matrix is channels x channels, however many taps the kernel has.
    vectors: Tensor = torch.linalg.eigh(matrix @ matrix.T).eigenvectors
    return vectors[:, -rank:].flip(1)
