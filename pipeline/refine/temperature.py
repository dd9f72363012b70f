"""Temperature scaling (Guo et al. 2017, arXiv:1706.04599): one number against over-confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax

from pipeline.metrics import score
from pipeline.metrics.decisions import Probabilities
from pipeline.metrics.registry import Truth
from pipeline.refine.refinement import Fitted, Problem, Tables

_SMALLEST = 1e-15
_RANGE = (0.05, 20.0)


@dataclass(frozen=True, slots=True)
class Temperature:
    """The temperature of one run that is best for log loss."""

    kind: str = "temperature"

    def fit(self, problem: Problem, tables: Tables) -> Fitted:
        """Fit it on the one table."""
        (probabilities,) = tables
        temperature = fit_temperature(problem.truth, probabilities)
        several = problem.multi_label
        return Fitted(
            lambda given: at_temperature(given[0], temperature, multi_label=several),
            {"temperature": temperature},
        )


def at_temperature(
    probabilities: Probabilities, temperature: float, *, multi_label: bool
) -> Probabilities:
    """Probabilities [N, classes] with their logits divided by `temperature`; above 1 is less sure.

    Logits are those of a softmax or, with several labels per image, of a sigmoid per class. Which
    class is the most probable does not change.
    """
    likely = np.clip(probabilities, _SMALLEST, 1 - _SMALLEST if multi_label else None)
    if multi_label:
        scaled: Probabilities = expit((np.log(likely) - np.log1p(-likely)) / temperature)
    else:
        scaled = softmax(np.log(likely) / temperature, axis=1)
    return scaled


def fit_temperature(truth: Truth, probabilities: Probabilities) -> float:
    """The temperature, 0.05 to 20, at which the log loss is lowest."""

    def loss(log_temperature: float) -> float:
        temperature = float(np.exp(log_temperature))
        scaled = at_temperature(probabilities, temperature, multi_label=truth.ndim == 2)
        return score("log_loss", truth, scaled)

    found = minimize_scalar(loss, bounds=np.log(_RANGE), method="bounded")
    return float(np.exp(found.x))
