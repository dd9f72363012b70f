"""How class probabilities become answers: one class, several, or the most probable in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

Probabilities = NDArray[np.floating[Any]]
Answers = NDArray[Any]

KINDS = ("argmax", "weights", "cuts", "thresholds")


@dataclass(frozen=True, slots=True)
class Decision:
    """A rule by which probabilities [N, classes] become decisions.

    Attributes:
        kind: what `values` are. "argmax": nothing. "weights": a factor per class, before the most
            probable class is taken. "cuts": ascending numbers between which the expected class
            number is rounded, one fewer than classes. "thresholds": a probability per class, from
            which on the class is among an image's several.
        values: as the kind wants them.
    """

    kind: str
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"decision {self.kind!r} is unknown; choose from {', '.join(KINDS)}")

    def reordered(self, places: Sequence[int]) -> Decision:
        """The same rule for classes in another order: class i moves to `places[i]`.

        Raises:
            ConfigError: cuts are of classes in one order only.
        """
        if not self.values or list(places) == sorted(places):
            return self
        if self.kind == "cuts":
            raise ConfigError("cuts hold for classes in the order in which they were fitted only")
        values = dict(zip(places, self.values, strict=True))
        return Decision(self.kind, tuple(values[place] for place in sorted(values)))

    def decide(self, probabilities: Probabilities) -> Answers:
        """Class numbers int64 [N] or, by thresholds, bool [N, classes]."""
        if self.kind == "thresholds":
            return probabilities >= np.array(self.values)
        if self.kind == "cuts":
            return np.searchsorted(np.array(self.values), expected_class(probabilities), "right")
        if self.kind == "weights":
            probabilities = probabilities * np.array(self.values)
        best: Answers = probabilities.argmax(axis=1)
        return best


def default_decision(classes: int, *, multi_label: bool) -> Decision:
    """The most probable class or, where an image has several, each that is more likely than not."""
    return Decision("thresholds", (0.5,) * classes) if multi_label else Decision("argmax")


def expected_class(probabilities: Probabilities) -> Probabilities:
    """The mean class number [N] under probabilities [N, classes]."""
    numbers = probabilities @ np.arange(probabilities.shape[1])
    mean: Probabilities = numbers / probabilities.sum(axis=1)
    return mean


def ranked(probabilities: Probabilities, length: int) -> Answers:
    """The `length` most probable classes int64 [N, length], best first; ties by class number."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :length]


def decision_of(record: dict[str, Any], classes: Sequence[str]) -> Decision:
    """The rule that a run's record holds, or the default one."""
    chosen = record.get("decision")
    if chosen is None:
        return default_decision(len(classes), multi_label=bool(record.get("multi_label")))
    return Decision(chosen["kind"], tuple(chosen["values"]))
