"""The loss of a batch: cross-entropy, for one label per image or several, and against skew."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.training.batches import FoldData
from pipeline.training.recipes import Recipe


def loss_of_labels(recipe: Recipe, data: FoldData) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean loss of logits [N, classes] against labels, or targets of mixed images.

    With one label per image it is cross-entropy over the classes; with several, the sum over the
    labels of each one's own: both are the negative log likelihood of what is known of the image.

    Where the recipe has `logit_adjustment` τ, the log of each class's frequency times τ is added to
    its logit in training alone (Menon et al. 2021, arXiv:2007.07314). Where it has `class_weights`
    p, an image counts its class's frequency to the power of -p, normalised to one on average.

    Raises:
        ConfigError: the recipe evens out classes, and images have several labels.
    """
    smoothing = recipe.label_smoothing
    if data.multi_label:
        if recipe.evens_classes:
            raise ConfigError(
                "class_weights, logit_adjustment and balanced_sampling are for images with one "
                "label each; leave them at 0"
            )
        return lambda logits, labels: _of_each_label(
            logits, labels.float() * (1 - smoothing) + smoothing / 2
        ).mean()
    if not recipe.evens_classes:
        return lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=smoothing)
    frequency = class_frequencies(data)
    shift = recipe.logit_adjustment * frequency.log()
    weights = frequency.pow(-recipe.class_weights)
    weights = weights / (weights * frequency).sum()
    return lambda logits, labels: F.cross_entropy(
        logits + shift, labels, weight=weights, label_smoothing=smoothing
    )


def weight_of_labels(recipe: Recipe, data: FoldData) -> Callable[[Tensor], Tensor | int]:
    """How much labels [N] count together in a mean loss: their class weights, else their number.

    Where images are blended, each counts the same whatever its targets [N, classes].
    """
    if data.multi_label or not recipe.class_weights:
        return len
    weights = class_frequencies(data).pow(-recipe.class_weights)
    return lambda labels: weights[labels].sum() if labels.ndim == 1 else len(labels)


def class_frequencies(data: FoldData) -> Tensor:
    """The share of each class among the fold's training images, float [classes]."""
    labels = data.labels[data.train.to(data.labels.device)]
    return torch.bincount(labels, minlength=data.classes).float() / len(labels)


def plain_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each image the loss without smoothing or weights, and whether it was answered rightly.

    Both [N]; of several labels the share that was.
    """
    if labels.ndim == 2:
        right = ((logits > 0) == labels).float().mean(1)
        return _of_each_label(logits, labels.float()), right
    return F.cross_entropy(logits, labels, reduction="none"), logits.argmax(1) == labels


def _of_each_label(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss [N] of images with any number of labels."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
