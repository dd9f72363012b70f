"""Competition metrics by name, computed by scikit-learn from probabilities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from pipeline.errors import ConfigError

Metric = Callable[[np.ndarray, np.ndarray], float]


def _accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(accuracy_score(labels, probabilities.argmax(1)))


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    # Rounded to the digits of a CSV, a row no longer adds up to one exactly.
    rows = probabilities / probabilities.sum(axis=1, keepdims=True)
    return float(log_loss(labels, rows, labels=range(rows.shape[1])))


def _roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels, probabilities[:, 1]))
    return float(roc_auc_score(labels, probabilities, multi_class="ovr"))


_METRICS: dict[str, Metric] = {"accuracy": _accuracy, "log_loss": _log_loss, "roc_auc": _roc_auc}


_LOWER_IS_BETTER = {"log_loss"}


def metric_names() -> list[str]:
    """Every name that a definition's `metric` accepts."""
    return sorted(_METRICS)


def score(metric: str, labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The metric of probabilities [N, classes] against class numbers [N].

    Raises:
        ConfigError: no metric has that name.
    """
    check_metric(metric)
    return _METRICS[metric](labels, probabilities)


def lower_is_better(metric: str) -> bool:
    """The metric's direction."""
    return metric in _LOWER_IS_BETTER


def check_metric(metric: str) -> None:
    """Fail on an unknown name before any work is done.

    Raises:
        ConfigError: no metric has that name.
    """
    if metric not in _METRICS:
        raise ConfigError(f"metric={metric!r} is unknown; choose from {', '.join(metric_names())}")
