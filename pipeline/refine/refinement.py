"""What every refinement is: parameters fitted on out-of-fold predictions, and scored nested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.decisions import Answers, Decision, Probabilities, default_decision
from pipeline.metrics.registry import Metric, Truth, metric_named

Tables = Sequence[Probabilities]
"""One table of probabilities [N, classes] per run; a row is the same image in each."""

Source = Callable[[int | None], Probabilities]
"""A run's probabilities [N, classes] of all training images.

Asked for a fold, it fits whatever it has to fit without that fold's labels. Asked for None, it
gives those that its own cross-validation score was computed on.
"""


@dataclass(frozen=True, slots=True)
class Problem:
    """What the probabilities are scored against.

    Attributes:
        metric: by name.
        truth: class numbers int64 [N] or, where an image has several labels, bool [N, classes].
        fold: the fold that each image validates, int64 [N].
    """

    metric: str
    truth: Truth
    fold: NDArray[np.int64]

    @property
    def its_metric(self) -> Metric:
        """The metric itself."""
        return metric_named(self.metric)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return bool(self.truth.ndim == 2)

    @property
    def numbers(self) -> list[int]:
        """The folds."""
        return [int(number) for number in np.unique(self.fold)]

    def only(self, rows: NDArray[Any]) -> Problem:
        """The same for the images `rows`, a mask or row numbers."""
        return Problem(self.metric, self.truth[rows], self.fold[rows])

    def answers(self, probabilities: Probabilities, decision: Decision | None = None) -> Answers:
        """What the metric compares with the truth; without a decision the default one decides."""
        usual = default_decision(probabilities.shape[1], multi_label=self.multi_label)
        return self.its_metric.answers_from(probabilities, decision or usual)

    def scores(self, answers: Answers) -> list[float]:
        """The metric of each fold's answers."""
        compute = self.its_metric.compute
        held_out = [self.fold == number for number in self.numbers]
        return [compute(self.truth[rows], answers[rows]) for rows in held_out]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A refinement with its parameters.

    Attributes:
        apply: makes one table of probabilities [N, classes] of those of the runs.
        parameters: for the record.
        decision: how the probabilities become answers; None: as by default.
    """

    apply: Callable[[Tables], Probabilities]
    parameters: dict[str, Any] = field(default_factory=dict)
    decision: Decision | None = None


class Refinement(Protocol):
    """A way to fit, by name; two that are equal fit alike."""

    @property
    def kind(self) -> str:
        """Its name."""
        ...

    def fit(self, problem: Problem, tables: Tables) -> Fitted:
        """The parameters that are best for these images."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """A trained run: nothing is fitted, every row comes from a network that did not see it."""

    probabilities: Probabilities

    def __call__(self, without: int | None) -> Probabilities:
        return self.probabilities


@dataclass(frozen=True, slots=True)
class Refitted:
    """A refined run; leaving out a fold, its own parameters are fitted anew without it."""

    probabilities: Probabilities
    refinement: Refinement
    problem: Problem
    sources: Sequence[Source]

    def __call__(self, without: int | None) -> Probabilities:
        if without is None:
            return self.probabilities
        tables = [source(without) for source in self.sources]
        return _fit_without(self.refinement, self.problem, tables, without).apply(tables)


@dataclass(frozen=True, slots=True)
class Nested:
    """What a refinement makes of every fold with parameters fitted on the other folds.

    Attributes:
        probabilities: [N, classes].
        answers: what the metric compares with the truth, [N, ...].
        scores: of each fold.
    """

    probabilities: Probabilities
    answers: Answers
    scores: list[float]


def nested(refinement: Refinement, problem: Problem, sources: Sequence[Source]) -> Nested:
    """Refine each fold without its labels."""
    refined = np.empty_like(sources[0](None))
    answers: list[tuple[NDArray[Any], Answers]] = []
    for number in problem.numbers:
        tables = [source(number) for source in sources]
        fitted = _fit_without(refinement, problem, tables, number)
        held_out = np.flatnonzero(problem.fold == number)
        refined[held_out] = fitted.apply([table[held_out] for table in tables])
        answers.append((held_out, problem.answers(refined[held_out], fitted.decision)))
    rows = np.concatenate([held_out for held_out, _ in answers])
    joined = np.concatenate([of_fold for _, of_fold in answers])[np.argsort(rows)]
    return Nested(refined, joined, problem.scores(joined))


def _fit_without(refinement: Refinement, problem: Problem, tables: Tables, fold: int) -> Fitted:
    rows = problem.fold != fold
    return refinement.fit(problem.only(rows), [table[rows] for table in tables])
