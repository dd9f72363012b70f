"""What people look at: reliability before and after, weights and the climb to them, trials."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.metrics.decisions import Decision, Probabilities
from pipeline.metrics.registry import Truth

_BINS = 12


def plot_reliability(title: str, truth: Truth, tables: dict[str, Probabilities]) -> bytes:
    """A PNG: how often the answer is right at each confidence, and how often that occurs.

    `tables` are probabilities [N, classes] by what they are called, such as "before".
    """
    figure, (above, below) = _figure(title, rows=2)
    above.plot([0, 1], [0, 1], ":", color="0.5")
    for name, table in tables.items():
        sure, right = _confidences(truth, table)
        edges = np.unique(np.quantile(sure, np.linspace(0, 1, _BINS + 1)))
        inside = np.clip(np.searchsorted(edges, sure, "right") - 1, 0, max(len(edges) - 2, 0))
        used = np.unique(inside)
        means = [(sure[inside == part].mean(), right[inside == part].mean()) for part in used]
        above.plot(*zip(*means, strict=True), "o-", label=name)
        below.hist(sure, bins=40, range=(0, 1), histtype="step", label=name)
    above.set(xlabel="confidence", ylabel="share that is right")
    below.set(xlabel="confidence", ylabel="images" if truth.ndim == 1 else "images x classes")
    above.legend()
    return _png(figure)


def _confidences(truth: Truth, table: Probabilities) -> tuple[Probabilities, Probabilities]:
    """Of each answer: its probability, and 1 where it is right; with several labels, each class."""
    if truth.ndim == 2:
        return table.ravel(), truth.ravel().astype(np.float64)
    return table.max(axis=1), (table.argmax(axis=1) == truth).astype(np.float64)


def plot_blend(
    title: str, metric: str, weights: dict[str, float], path: Sequence[float], best_member: float
) -> bytes:
    """A PNG: the weight of each run and, of a greedy blend, the score after every step."""
    figure, (bars, climb) = _figure(title, rows=2)
    kept = {name: weight for name, weight in weights.items() if weight > 0}
    bars.bar_label(bars.barh(list(kept), list(kept.values())), fmt="%.2f")
    bars.invert_yaxis()
    bars.margins(x=0.15)
    bars.set_title("weights", fontsize=10)
    climb.axhline(best_member, ls=":", color="0.5", label="best run alone")
    if path:
        climb.plot(range(1, len(path) + 1), path, "o-", markersize=3, label="blend")
    climb.set(xlabel="runs added", ylabel=f"out-of-fold {metric}")
    climb.legend()
    return _png(figure)


def plot_decision(title: str, decision: Decision, classes: Sequence[str]) -> bytes:
    """A PNG: the number per class, or each cut between two classes."""
    figure, (axes,) = _figure(title, rows=1)
    names = [name.replace("$", r"\$") for name in classes]  # between two of them stands a formula
    if decision.kind == "cuts":
        names = [f"{low} | {high}" for low, high in pairwise(names)]
    axes.bar_label(axes.barh(names, decision.values), fmt="%.3f")
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel(decision.kind)
    return _png(figure)


def plot_trials(
    title: str,
    metric: str,
    trials: Sequence[tuple[int, float, bool]],
    watched: str,
    *,
    greater_is_better: bool,
) -> bytes:
    """A PNG: the score of each trial (number, score, pruned), and the best so far.

    Of a pruned one it is what was `watched` of its last epoch, such as accuracy.
    """
    figure, (axes,) = _figure(title, rows=1)
    for pruned, marker, name in ((False, "o", "finished"), (True, "x", f"pruned, its {watched}")):
        points = [(number, score) for number, score, was in trials if was == pruned]
        if points:
            axes.plot(*zip(*points, strict=True), marker, label=name)
    best = np.maximum.accumulate if greater_is_better else np.minimum.accumulate
    finished = [(number, score) for number, score, was in trials if not was]
    numbers, scores = zip(*finished, strict=True)
    axes.step(numbers, best(scores), where="post", color="0.5", label="best so far")
    axes.set(xlabel="trial", ylabel=f"{metric} of fold 0")
    axes.legend()
    return _png(figure)


def _figure(title: str, rows: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8, 3.6 * rows), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes: list[Axes] = list(figure.subplots(rows, squeeze=False).ravel())
    for each in axes:
        each.grid(alpha=0.3)
    return figure, axes


def _png(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()
