"""Where `make tune` looks for better values of a recipe's fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Trial(Protocol):
    """What suggests values; Optuna's trials do."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True, slots=True)
class Around:
    """From the recipe's own value divided by `times` to its `times`-fold, on a logarithmic scale.

    A field that is zero stays so.
    """

    times: float

    def suggest(self, trial: Trial, name: str, own: float) -> float:
        """A value with three digits, or the recipe's own."""
        if own == 0:
            return own
        value = trial.suggest_float(name, own / self.times, own * self.times, log=True)
        return _rounded(value, own)


@dataclass(frozen=True, slots=True)
class Between:
    """From `low` to `high`, wider where the recipe's own value is outside."""

    low: float
    high: float

    def suggest(self, trial: Trial, name: str, own: float) -> float:
        """A value with three digits, or the recipe's own."""
        value = trial.suggest_float(name, min(self.low, own), max(self.high, own))
        return _rounded(value, own)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these, or the recipe's own value."""

    choices: tuple[int, ...]

    def suggest(self, trial: Trial, name: str, own: int) -> int:
        """A choice."""
        return int(trial.suggest_categorical(name, sorted({*self.choices, own})))


SPACE: dict[str, Around | Between | OneOf] = {
    "learning_rate": Around(times=4),
    "weight_decay": Around(times=8),
    "batch_size": OneOf((64, 128, 256)),
    "warmup": Between(0.02, 0.5),
    "label_smoothing": Between(0.0, 0.2),
    "dropout": Between(0.0, 0.5),
    "max_shift": Between(0.0, 0.25),
    "mixup": Between(0.0, 1.0),
}
"""By field. Epochs and image sizes set the cost, so they are the user's choice."""


def suggest(trial: Trial, own: Mapping[str, Any]) -> dict[str, Any]:
    """A value for every field of the space; `own` are the recipe's values by field."""
    return {name: where.suggest(trial, name, own[name]) for name, where in SPACE.items()}


def own_values(own: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's own values of the fields that are searched, for the first trial."""
    return {
        name: own[name]
        for name, where in SPACE.items()
        if not (isinstance(where, Around) and own[name] == 0)
    }


def _rounded(value: float, own: float) -> float:
    return own if value == own else float(f"{value:.3g}")
