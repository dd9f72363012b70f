"""mixup (Zhang et al. 2017, arXiv:1710.09412): images blended with others, and their labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def random_weights(count: int, share: float, generator: torch.Generator) -> Tensor:
    """What each of `count` images keeps of its own colours, [N]: one, but for about a `share`.

    Those keep a half to all, evenly; the rest comes from another image.
    """
    chosen = torch.rand(count, generator=generator) < share
    weight = torch.rand(count, generator=generator)
    return torch.where(chosen, torch.maximum(weight, 1 - weight), torch.ones(count))


def mixed_images(own: Tensor, others: Tensor, weight: Tensor) -> Tensor:
    """Float [N, H, W, C] from uint8 images and those that they are blended with."""
    return torch.lerp(others.float(), own.float(), weight[:, None, None, None])


def mixed_labels(own: Tensor, others: Tensor, weight: Tensor, classes: int) -> Tensor:
    """Class probabilities float [N, classes] from the labels of both.

    Labels are class numbers int64 [N], or bool [N, classes].
    """
    return torch.lerp(_as_targets(others, classes), _as_targets(own, classes), weight[:, None])


def _as_targets(labels: Tensor, classes: int) -> Tensor:
    return labels.float() if labels.ndim == 2 else F.one_hot(labels, classes).float()
