"""Recipes: how a network is trained. What RECIPE accepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import ConfigError

SMALLEST_SIDE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The numbers of one training run.

    Attributes:
        epochs: passes over a fold's training images.
        batch_size: images per step; halved until an epoch has at least 16 steps.
        learning_rate: the peak, for a batch of 256; scaled linearly with the batch.
        momentum, weight_decay: of SGD with Nesterov momentum; norms and biases do not decay.
        warmup: fraction of the steps that rise to the peak; the rest falls linearly to zero.
        label_smoothing: share of the target spread over all classes.
        dropout: before the head.
        max_shift: random shift, as a fraction of the image's shorter side.
        small_epochs: fraction of the epochs, the first ones, that see shrunk images.
        small_side: the side of a shrunk image as a fraction; none gets below 16 pixels.
    """

    epochs: int
    batch_size: int
    learning_rate: float = 0.4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.2
    label_smoothing: float = 0.1
    dropout: float = 0.2
    max_shift: float = 0.125
    small_epochs: float = 0.0
    small_side: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ConfigError(f"epochs={self.epochs}: at least 1")
        if self.batch_size < 2:
            raise ConfigError(f"batch_size={self.batch_size}: batch norm needs at least 2 images")

    def side_for(self, epoch: int, side: int) -> int:
        """The shorter side, in pixels, of the images of this epoch; `side` is the full one."""
        if epoch >= self.small_epochs * self.epochs:
            return side
        return min(side, max(SMALLEST_SIDE, round(self.small_side * side)))

    def batch_for(self, images: int) -> int:
        """The batch size for a fold of `images` training images."""
        batch = self.batch_size
        while batch > 32 and images < 16 * batch:
            batch //= 2
        return min(batch, images)


def quick() -> Recipe:
    """The default: five folds of 12,000 32 x 32 images in minutes on two CPU cores."""
    return Recipe(
        epochs=22,
        batch_size=128,
        dropout=0.0,
        max_shift=0.0625,
        small_epochs=0.6,
        small_side=0.625,
    )


def smoke() -> Recipe:
    """Two epochs, to see that the whole chain works; the score means nothing."""
    return Recipe(epochs=2, batch_size=128)


_RECIPES: dict[str, Callable[[], Recipe]] = {"quick": quick, "smoke": smoke}


def recipe_names() -> list[str]:
    """Every name that RECIPE accepts."""
    return sorted(_RECIPES)


def make_recipe(name: str) -> Recipe:
    """The recipe `name`.

    Raises:
        ConfigError: no recipe has that name.
    """
    if name not in _RECIPES:
        raise ConfigError(f"RECIPE={name!r} is unknown; choose from {', '.join(recipe_names())}")
    return _RECIPES[name]()
