"""Competition metrics by name; scikit-learn computes those that take more than a line."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.metrics.decisions import Answers, Decision, Probabilities, default_decision, ranked

Truth = NDArray[Any]
_RANKED = re.compile(r"(top|map)@([1-9]\d?)")
_SMALLEST = 1e-15  # a probability of zero would cost infinitely much


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A metric, and what it compares.

    Attributes:
        compute: from the truth and the answers. The truth is class numbers int64 [N] or, where an
            image has several labels, bool [N, classes].
        answers: "decisions", as the truth; "probabilities", [N, classes]; "ranking", the most
            probable class numbers [N, length], best first.
        single_label: whether it scores images with one label each.
        multi_label: whether it scores images with any number of labels.
        greater_is_better: the direction.
        length: of a ranking.
    """

    compute: Callable[[Truth, Answers], float]
    answers: str
    single_label: bool = True
    multi_label: bool = False
    greater_is_better: bool = True
    length: int = 0

    def answers_from(self, probabilities: Probabilities, decision: Decision) -> Answers:
        """What `compute` compares with the truth, from probabilities [N, classes]."""
        if self.answers == "probabilities":
            return probabilities
        if self.answers == "ranking":
            return ranked(probabilities, self.length)
        return decision.decide(probabilities)


def _scikit_learn() -> Any:
    """Imported when the first score is computed: it is slow to, and most commands need none."""
    from sklearn import metrics

    return metrics


def _accuracy(truth: Truth, decided: Answers) -> float:
    return float((truth == decided).mean())


def _balanced_accuracy(truth: Truth, decided: Answers) -> float:
    """The mean share of the images that are found, over the classes that have any."""
    there = np.bincount(truth)
    found = np.bincount(truth[truth == decided], minlength=len(there))
    return float((found[there > 0] / there[there > 0]).mean())


def _f1(average: str) -> Callable[[Truth, Answers], float]:
    return lambda truth, decided: float(
        _scikit_learn().f1_score(truth, decided, average=average, zero_division=0)
    )


def _quadratic_kappa(truth: Truth, decided: Answers) -> float:
    """Cohen 1968; the classes' order is their distance, also across one that never occurs."""
    numbers = np.arange(max(truth.max(), decided.max()) + 1)
    return float(
        _scikit_learn().cohen_kappa_score(truth, decided, labels=numbers, weights="quadratic")
    )


def _log_loss(truth: Truth, probabilities: Probabilities) -> float:
    """Of several labels: the mean over all images and labels."""
    if truth.ndim == 2:
        likely = np.clip(probabilities, _SMALLEST, 1 - _SMALLEST)
        return float(-np.where(truth, np.log(likely), np.log1p(-likely)).mean())
    # Rounded to the digits of a CSV, a row no longer adds up to one exactly.
    rows = probabilities / probabilities.sum(axis=1, keepdims=True)
    likely = np.clip(rows[np.arange(len(truth)), truth], _SMALLEST, 1 - _SMALLEST)
    return float(-np.log(likely).mean())


def _roc_auc(truth: Truth, probabilities: Probabilities) -> float:
    """Of more than two classes: the mean over each against the rest; NaN where one is absent."""
    if truth.ndim == 1 and probabilities.shape[1] == 2:
        probabilities = probabilities[:, 1]
    elif truth.ndim == 1:
        truth = truth[:, None] == np.arange(probabilities.shape[1])
    from sklearn.exceptions import UndefinedMetricWarning  # slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # who asks says it better
        return float(_scikit_learn().roc_auc_score(truth, probabilities, average="macro"))


def _top(truth: Truth, ranking: Answers) -> float:
    return float((ranking == truth[:, None]).any(axis=1).mean())


def _mean_average_precision(truth: Truth, ranking: Answers) -> float:
    """With one label per image the precision is 1 / the place at which it stands."""
    places = np.arange(1, ranking.shape[1] + 1)
    return float(((ranking == truth[:, None]) / places).sum(axis=1).mean())


_METRICS: dict[str, Metric] = {
    "accuracy": Metric(compute=_accuracy, answers="decisions"),
    "balanced_accuracy": Metric(compute=_balanced_accuracy, answers="decisions"),
    "macro_f1": Metric(compute=_f1("macro"), answers="decisions", multi_label=True),
    "micro_f1": Metric(compute=_f1("micro"), answers="decisions", multi_label=True),
    "quadratic_kappa": Metric(compute=_quadratic_kappa, answers="decisions"),
    "log_loss": Metric(
        compute=_log_loss, answers="probabilities", multi_label=True, greater_is_better=False
    ),
    "roc_auc": Metric(compute=_roc_auc, answers="probabilities", multi_label=True),
}


def metric_names() -> list[str]:
    """Every name that a definition's `metric` accepts; K is a number such as 3."""
    return [*sorted(_METRICS), "top@K", "map@K"]


def metric_named(name: str) -> Metric:
    """The metric `name`.

    Raises:
        ConfigError: no metric has that name.
    """
    ranking = _RANKED.fullmatch(name)
    if ranking:
        compute = _top if ranking[1] == "top" else _mean_average_precision
        return Metric(compute=compute, answers="ranking", length=int(ranking[2]))
    if name not in _METRICS:
        raise ConfigError(f"metric={name!r} is unknown; choose from {', '.join(metric_names())}")
    return _METRICS[name]


def check_metric(name: str, *, multi_label: bool, classes: int) -> None:
    """Fail on a metric that does not fit the labels before any work is done.

    Raises:
        ConfigError: there is no such metric, or images with one label (or several) have none
            such, or it ranks more classes than there are.
    """
    metric = metric_named(name)
    if not (metric.multi_label if multi_label else metric.single_label):
        fitting = [other for other, its in _METRICS.items() if its.multi_label or not multi_label]
        number = "several labels" if multi_label else "one label"
        raise ConfigError(
            f"metric={name!r} does not score images with {number}; choose from "
            f"{', '.join(sorted(fitting))}, or correct `[data] label_separator` or `label_columns`"
        )
    if metric.length > classes:
        raise ConfigError(f"metric={name!r} ranks more than the {classes} classes there are")


def lower_is_better(name: str) -> bool:
    """The metric's direction.

    Raises:
        ConfigError: no metric has that name.
    """
    return not metric_named(name).greater_is_better


def score(
    name: str, truth: Truth, probabilities: Probabilities, decision: Decision | None = None
) -> float:
    """The metric of probabilities [N, classes] against the truth.

    Args:
        name: the metric.
        truth: class numbers int64 [N] or, for several labels, bool [N, classes].
        probabilities: [N, classes].
        decision: the rule for a metric of decisions; None: the default one.

    Raises:
        ConfigError: no metric has that name.
    """
    metric = metric_named(name)
    usual = default_decision(probabilities.shape[1], multi_label=truth.ndim == 2)
    return metric.compute(truth, metric.answers_from(probabilities, decision or usual))
