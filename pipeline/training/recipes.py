"""Recipes: how a network is trained. What RECIPE accepts."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import ConfigError
from pipeline.reading import read_errors
from pipeline.training.optimizers import optimizer_names
from pipeline.training.schedules import schedule_names

SMALLEST_SIDE = 16
SAVED = ".json"
KEPT_EPOCHS = ("last", "best")


class _Range(NamedTuple):
    """The values that a field may have, both ends included."""

    low: float
    high: float
    words: str


_FRACTION = _Range(0, 1, "choose a fraction from 0 to 1")
_BELOW_ONE = _Range(0, math.nextafter(1, 0), "choose a fraction from 0 to below 1")
_FINITE = _Range(0, sys.float_info.max, "choose a finite number from 0 on")
_POWER = _Range(0, 10, "choose a power from 0 to 10, such as 1")  # beyond, weights overflow
_RANGES = {
    "epochs": _Range(1, math.inf, "at least 1"),
    "batch_size": _Range(2, math.inf, "batch norm needs at least 2 images"),
    "learning_rate": _FINITE,
    "momentum": _BELOW_ONE,
    "weight_decay": _FINITE,
    "warmup": _BELOW_ONE,
    "label_smoothing": _FRACTION,
    "dropout": _FRACTION,
    "max_shift": _FRACTION,
    "mixup": _FRACTION,
    "class_weights": _POWER,
    "balanced_sampling": _POWER,
    "logit_adjustment": _FINITE,
    "small_epochs": _FRACTION,
    "small_side": _FRACTION,
    "frozen": _FRACTION,
    "layer_decay": _Range(
        math.ulp(0.0), 1, "choose a factor above 0, such as 0.8, or 1 for one rate"
    ),
    "clip": _Range(0, sys.float_info.max, "choose a norm above 0, such as 1, or 0 for none"),
    "ema": _Range(0, math.nextafter(1, 0), "choose a decay from 0 to below 1, such as 0.98"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The choices of one training run.

    Attributes:
        epochs: passes over a fold's training images.
        batch_size: images per step; while above 32, halved until an epoch has at least 16 steps.
        optimizer: one of `pipeline.training.optimizers`.
        learning_rate: the peak, for a full batch; scaled linearly with a smaller one.
        momentum: of the optimizer, where it has one.
        weight_decay: decoupled from the gradient (Loshchilov & Hutter 2019): each step takes the
            fraction learning rate · weight_decay; norms and biases do not decay.
        schedule: of the learning rate, one of `pipeline.training.schedules`.
        warmup: fraction of the steps that rise to the peak.
        label_smoothing: share of the target spread over all classes.
        dropout: before the head.
        max_shift: random shift, as a fraction of the image's shorter side.
        mixup: fraction of the images blended with another one.
        class_weights: power of 1 / class frequency by which an image counts in the loss.
        balanced_sampling: power of 1 / class frequency by which images are drawn.
        logit_adjustment: multiple of the log class frequency that is added to logits in training.
        small_epochs: fraction of the epochs, the first ones, that see shrunk images.
        small_side: the side of a shrunk image as a fraction; none gets below 16 pixels.
        frozen: fraction of the epochs, the first ones, in which the classifier alone learns.
        layer_decay: factor of the learning rate from each block of the network to the one ahead of
            it; the classifier's is the recipe's own. 1: one rate for all.
        clip: largest norm of all gradients of a step together; 0: none is too large.
        ema: decay per step of a moving average over weights and batch norm's statistics, which is
            then what is validated, predicts and is saved; 0: the weights themselves.
        keep: the epoch that predicts and is saved: last, or best, the one with the best validation
            score by the competition's own metric among those at full image size. A choice by
            validation flatters cross-validation, which scores the same images.
    """

    epochs: int
    batch_size: int
    optimizer: str = "sgd"
    learning_rate: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-3
    schedule: str = "linear"
    warmup: float = 0.2
    label_smoothing: float = 0.1
    dropout: float = 0.2
    max_shift: float = 0.125
    mixup: float = 0.0
    class_weights: float = 0.0
    balanced_sampling: float = 0.0
    logit_adjustment: float = 0.0
    small_epochs: float = 0.0
    small_side: float = 1.0
    frozen: float = 0.0
    layer_decay: float = 1.0
    clip: float = 0.0
    ema: float = 0.0
    keep: str = "last"

    def __post_init__(self) -> None:
        for kind, name, names in (
            ("optimizer", self.optimizer, optimizer_names()),
            ("schedule", self.schedule, schedule_names()),
            ("keep", self.keep, KEPT_EPOCHS),
        ):
            if name not in names:
                raise ConfigError(f"{kind}={name!r} is unknown; choose from {', '.join(names)}")
        for field, allowed in _RANGES.items():
            value = getattr(self, field)
            if not allowed.low <= value <= allowed.high:  # no NaN is
                raise ConfigError(f"{field}={value}: {allowed.words}")
        if self.keep == "best" and self._shrinks(self.epochs - 1):
            raise ConfigError(
                "keep=best chooses among the epochs at full image size, and small_epochs="
                f"{self.small_epochs} leaves none; lower it, or choose keep=last"
            )

    @property
    def evens_classes(self) -> bool:
        """Whether rare classes count for more."""
        return any((self.class_weights, self.balanced_sampling, self.logit_adjustment))

    def side_for(self, epoch: int, side: int) -> int:
        """The shorter side, in pixels, of the images of this epoch; `side` is the full one."""
        if not self._shrinks(epoch):
            return side
        return min(side, max(SMALLEST_SIDE, round(self.small_side * side)))

    def _shrinks(self, epoch: int) -> bool:
        return self.small_side < 1 and epoch < self.small_epochs * self.epochs

    def is_frozen(self, epoch: int) -> bool:
        """Whether the classifier alone learns in this epoch."""
        return epoch < self.frozen * self.epochs

    def shift_for(self, side: int) -> int:
        """The largest random shift in pixels; at least one unless the recipe wants none."""
        return max(1, round(self.max_shift * side)) if self.max_shift > 0 else 0

    def batch_for(self, images: int) -> int:
        """The batch size for a fold of `images` training images."""
        batch = self.batch_size
        while batch > 32 and images < 16 * batch:
            batch //= 2
        return min(batch, images)

    def pixels(self, images: int, height: int, width: int) -> float:
        """Pixels that one fold of `images` training images shows the network, in all epochs."""
        shorter = min(height, width)
        sides = (self.side_for(epoch, shorter) for epoch in range(self.epochs))
        return images * height * width * sum((side / shorter) ** 2 for side in sides)


def quick() -> Recipe:
    """The default: five folds of 12,000 32 x 32 images in minutes on two CPU cores.

    On dog-vs-cat-vs-bird, two cores of a Xeon with AMX: resnet14 with subkernel CV 0.884, private
    score 0.899, 7 min of training; channel-selection 0.871, 0.886, 6.5 min.
    """
    return Recipe(
        epochs=28,
        batch_size=128,
        optimizer="muon",
        learning_rate=0.012,
        weight_decay=0.15,
        dropout=0.0,
        max_shift=0.0625,
        small_epochs=0.6,
        small_side=0.625,
    )


def strong() -> Recipe:
    """For a network that can fit the images, such as MODEL=resnet14x2.

    On dog-vs-cat-vs-bird with resnet14x2, two cores of a Xeon with AMX: CV 0.918, private score
    0.930, 36 min of training beside other work.
    """
    return replace(quick(), epochs=60, max_shift=0.125, mixup=0.5)


def speedrun() -> Recipe:
    """To the published leaderboard score, 84.17 % on average over the folds, in little time.

    On dog-vs-cat-vs-bird with resnet14 and subkernel, two cores of a Xeon with AMX: CV 0.849,
    private score 0.865, 37 s a fold. With 11 epochs, 29 s a fold, it misses: 0.836.
    """
    return replace(quick(), epochs=14, small_epochs=0.7)


def published() -> Recipe:
    """Our reconstruction of the channel-selection study, which names no recipe.

    Plain flips and crops for 120 epochs, past the 80 at which its two losses part; expected
    leaderboard accuracy 84.17 % (subkernel) and 81.53 % (channel-selection).
    """
    return Recipe(
        epochs=120,
        batch_size=128,
        learning_rate=0.1,
        schedule="cosine",
        warmup=0.05,
        label_smoothing=0.0,
    )


def finetune() -> Recipe:
    """For starting from weights, such as those of `make weights MODEL=resnet18`.

    resnet14 trained on seven other classes of CIFAR-10, then on 500 images of dog-vs-cat-vs-bird
    (2,400 others validate, three seeds, nothing frozen): accuracy 0.717 at this rate, 0.701 at a
    third and 0.686 at a tenth of it; freshly drawn, at a third, 0.604. The frozen epochs are for
    very few images (eight seeds): with 150 the log loss falls from 0.879 to 0.836 at accuracies of
    0.626 and 0.632, with 500 it stays and accuracy goes from 0.719 to 0.713. `layer_decay` stays
    at 1: with 0.8 and 0.65 accuracy is 0.709 and 0.701 (500 images, three seeds, nothing frozen),
    at twice the rate 0.718 and 0.711, and 0.710 with 1. Larger networks were not tried.
    """
    return Recipe(
        epochs=20,
        batch_size=64,
        optimizer="adamw",
        learning_rate=6e-3,
        weight_decay=0.05,
        schedule="cosine",
        warmup=0.1,
        dropout=0.0,
        frozen=0.2,
    )


def smoke() -> Recipe:
    """Two epochs, to see that the whole chain works; the score means nothing."""
    return Recipe(epochs=2, batch_size=128)


_RECIPES: dict[str, Callable[[], Recipe]] = {
    "quick": quick,
    "strong": strong,
    "speedrun": speedrun,
    "published": published,
    "finetune": finetune,
    "smoke": smoke,
}


def recipe_names() -> list[str]:
    """Every name that RECIPE accepts."""
    return sorted(_RECIPES)


def make_recipe(name: str, changes: Mapping[str, str] | None = None) -> Recipe:
    """The recipe `name`, with fields given as text in `changes` in place of its own.

    A name that ends in .json is a file: an object with values by field, as `make tune` saves it.

    Raises:
        ConfigError: no recipe or field has that name, or a value does not fit its field.
    """
    if name.endswith(SAVED):
        recipe = _saved(Path(name))
    elif name in _RECIPES:
        recipe = _RECIPES[name]()
    else:
        names = ", ".join(recipe_names())
        raise ConfigError(f"RECIPE={name!r} is unknown; choose from {names}, or a saved {SAVED}")
    return replace(
        recipe, **{key: _value(recipe, key, text) for key, text in (changes or {}).items()}
    )


def _saved(path: Path) -> Recipe:
    """The recipe in a file; what it leaves out is as in `Recipe`."""
    try:
        with read_errors(path):
            values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError("it holds no object with values by field")
        unknown = sorted(set(values) - set(recipe_fields()))
        if unknown:
            known = ", ".join(recipe_fields())
            raise ConfigError(
                f"RECIPE={path}: {len(unknown)} unknown fields, first {unknown[0]!r}; choose from "
                f"{known}"
            )
        own = Recipe(epochs=1, batch_size=2)
        return Recipe(**{key: _value(own, key, str(value)) for key, value in values.items()})
    except FileNotFoundError:
        raise ConfigError(f"RECIPE={path}: there is no such file") from None
    except (ValueError, TypeError) as err:
        raise ConfigError(f"RECIPE={path} is no saved recipe: {err}") from err


def recipe_fields() -> list[str]:
    """The names that `changes` may have."""
    return [field.name for field in fields(Recipe)]


def _value(recipe: Recipe, name: str, text: str) -> Any:
    kind = type(getattr(recipe, name))
    try:
        return kind(text)
    except ValueError:
        what = {int: "a whole number", float: "a number"}[kind]
        raise ConfigError(f"{name}={text!r} is not {what}") from None
