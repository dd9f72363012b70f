"""Which two uploads to bet on, from cross-validation, public scores and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

_AGREEMENT = 0.5
_FEWEST = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An upload that may be chosen. Scores are turned so that more is better.

    Attributes:
        name: the run.
        cv: mean over the folds.
        cv_error: standard error of that mean.
        public: None where the host did not tell it.
        predictions: of the test images, by id and class; None where they are not there any more.
    """

    name: str
    cv: float
    cv_error: float
    public: float | None
    predictions: pd.DataFrame | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Spearman's rank correlation of cross-validation and public score, over `count` uploads."""

    correlation: float | None
    count: int

    @property
    def is_little(self) -> bool:
        """Whether there are enough uploads to say that the two rank them differently."""
        return self.correlation is not None and self.correlation < _AGREEMENT

    def __str__(self) -> str:
        if self.correlation is None:
            return f"n = {self.count}: too few to say whether CV and leaderboard agree"
        return f"rank correlation of CV and public score {self.correlation:.2f}, n = {self.count}"


@dataclass(frozen=True, slots=True)
class Choice:
    """An upload by its place among the entries, and why."""

    place: int
    reason: str


def agreement(entries: Sequence[Entry]) -> Agreement:
    """How cross-validation and leaderboard agree; unknown with under four public scores."""
    known = [(entry.cv, entry.public) for entry in entries if entry.public is not None]
    varied = all(len(set(scores)) > 1 for scores in zip(*known, strict=True))
    if len(known) < _FEWEST or not varied:
        return Agreement(None, len(known))
    return Agreement(float(spearmanr(np.array(known)).statistic), len(known))


def choose_two(entries: Sequence[Entry]) -> list[Choice]:
    """The best by cross-validation, and beside it one that fails in other ways; one if alone."""
    order = sorted(range(len(entries)), key=lambda place: entries[place].cv, reverse=True)
    first = Choice(order[0], f"best cross-validation of {len(entries)} uploads")
    rest = order[1:]
    if not rest:
        return [first]
    agreed = agreement(entries)
    if agreed.is_little and (second := _best_public(entries, rest, first.place, agreed)):
        return [first, second]
    return [first, _insurance(entries, rest, first.place)]


def _best_public(
    entries: Sequence[Entry], rest: Sequence[int], first: int, agreed: Agreement
) -> Choice | None:
    """The leader of the public leaderboard, unless that is the first one."""
    told = [(score, place) for place in rest if (score := entries[place].public) is not None]
    best, place = max(told, key=lambda pair: pair[0])
    own = entries[first].public
    if own is not None and own >= best:
        return None
    return Choice(place, f"best public score, since CV and leaderboard agree little ({agreed})")


def _insurance(entries: Sequence[Entry], rest: Sequence[int], first: int) -> Choice:
    """Of those about as good by cross-validation, the one whose predictions differ most."""
    best = entries[first]
    near = [place for place in rest if best.cv - entries[place].cv <= 2 * best.cv_error]
    likeness = {place: _correlation(best, entries[place]) for place in near}
    known = {place: value for place, value in likeness.items() if value is not None}
    if not known:
        why = "no other is near it" if not near else "the test predictions are gone"
        return Choice(rest[0], f"second best cross-validation ({why})")
    place = min(known, key=lambda place: known[place])
    return Choice(
        place,
        f"insurance: within two standard errors of the best CV, as {len(known)} are, and least "
        f"like the first one in its predictions (correlation {known[place]:.3f})",
    )


def _correlation(one: Entry, other: Entry) -> float | None:
    if one.predictions is None or other.predictions is None:
        return None
    joined = other.predictions.reindex(index=one.predictions.index, columns=one.predictions.columns)
    if joined.isna().to_numpy().any():
        return None
    pair = one.predictions.to_numpy().ravel(), joined.to_numpy().ravel()
    return float(np.corrcoef(*pair)[0, 1])
