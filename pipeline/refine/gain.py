"""What a refinement gains over the best run it was made from, and how much of that is noise."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.decisions import Answers
from pipeline.refine.refinement import Problem

_RESAMPLES = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """A difference of cross-validation scores; positive is better, whatever the metric's direction.

    Attributes:
        mean: over the folds.
        folds: of each fold.
        error_over_folds: standard error of the mean, from the folds' spread.
        error_over_images: its standard error when images are drawn anew within their folds.
    """

    mean: float
    folds: list[float]
    error_over_folds: float
    error_over_images: float

    @property
    def noise(self) -> float:
        """Twice the larger standard error: about 95 % of what chance alone would show."""
        return 2 * max(self.error_over_folds, self.error_over_images)

    @property
    def verdict(self) -> str:
        """Whether there is more than noise."""
        if abs(self.mean) <= self.noise:
            return "within noise"
        return "better" if self.mean > 0 else "worse"

    def as_dict(self) -> dict[str, Any]:
        """Everything, for the record."""
        return {**asdict(self), "noise": self.noise, "verdict": self.verdict}


def gain_text(gain: dict[str, Any]) -> str:
    """A gain in words, as a run's record holds it: `as_dict` with the name of what it is `over`."""
    return (
        f"gain {gain['mean']:+.4f} ± {gain['noise']:.4f} over {gain['over']}: {gain['verdict']} "
        "(± is two standard errors)"
    )


def gain_of(problem: Problem, refined: Answers, base: Answers) -> Gain:
    """Compare answers [N, ...] to the same images, fold by fold.

    The error over images is that of a paired bootstrap (Efron 1979): both sides see the same
    resampled images, which keep their fold and, where they have one label, the classes' numbers.
    """
    from sklearn.exceptions import UndefinedMetricWarning  # slow to import

    by_fold = _differences(problem, refined, base)
    generator = np.random.default_rng(0)
    with warnings.catch_warnings():
        # A metric may be undefined on a resample without a rare class: that one does not count.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        resampled = [
            np.mean(_differences(problem.only(rows), refined[rows], base[rows]))
            for rows in _resamples(problem, generator)
        ]
    return Gain(
        mean=float(np.mean(by_fold)),
        folds=by_fold,
        error_over_folds=float(np.std(by_fold, ddof=1) / np.sqrt(len(by_fold))),
        error_over_images=float(np.nanstd(resampled, ddof=1)),
    )


def _differences(problem: Problem, refined: Answers, base: Answers) -> list[float]:
    """Of each fold, positive where `refined` is better."""
    sign = 1 if problem.its_metric.greater_is_better else -1
    pairs = zip(problem.scores(refined), problem.scores(base), strict=True)
    return [sign * (new - old) for new, old in pairs]


def _resamples(problem: Problem, generator: np.random.Generator) -> Iterator[NDArray[Any]]:
    """Row numbers [N], drawn with replacement among the images of the same fold and class."""
    classes = np.zeros_like(problem.fold) if problem.multi_label else problem.truth
    order = np.lexsort((classes, problem.fold))
    strata = np.stack([problem.fold, classes], axis=1)[order]
    _, first, size = np.unique(strata, axis=0, return_index=True, return_counts=True)
    start, width = np.repeat(first, size), np.repeat(size, size)
    for _ in range(_RESAMPLES):
        yield order[start + (generator.random(len(order)) * width).astype(np.int64)]
