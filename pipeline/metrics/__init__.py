"""How a competition scores: its metric by name, and how probabilities become answers."""

from pipeline.metrics.decisions import Decision, default_decision
from pipeline.metrics.registry import (
    Metric,
    check_metric,
    lower_is_better,
    metric_named,
    metric_names,
    score,
)

__all__ = [
    "Decision",
    "Metric",
    "check_metric",
    "default_decision",
    "lower_is_better",
    "metric_named",
    "metric_names",
    "score",
]
