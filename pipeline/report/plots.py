"""Plots as SVG inside a page: text and axes in the page's own colour, light or dark.

The same figures give the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from html import escape
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_INK = "#010203"  # stands for the page's colour of text
_COLOURS = ("#4a7fd0", "#d9822b", "#3a9d6e", "#b05cc6", "#cf4f5c", "#8a7a2f")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.2,
    **dict.fromkeys(("axes.facecolor", "figure.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "grid.color"), _INK
    ),
    **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
}
_WIDE_RANGE = 20  # from this ratio on, losses are easier to read on a logarithmic axis
_FOLDS_NAMED = 6

_CURVES = (
    ("train_loss", "training loss"),
    ("valid_loss", "validation loss"),
    ("valid_accuracy", "validation accuracy"),
)


def curves(folds: Sequence[Sequence[dict[str, Any]]]) -> list[Markup]:
    """Per fold and epoch: training loss, validation loss, validation accuracy."""
    return [_curve(key, title, folds) for key, title in _CURVES]


def _curve(key: str, title: str, folds: Sequence[Sequence[dict[str, Any]]]) -> Markup:
    alt = f"{title} by epoch, a line for each of {len(folds)} folds"
    with _style(alt):
        figure, axes = _axes()
        for number, epochs in enumerate(folds):
            values = [epoch[key] for epoch in epochs]
            marker = "o" if len(values) == 1 else ""
            colour = _COLOURS[number % len(_COLOURS)]
            at = range(1, len(values) + 1)
            axes.plot(at, values, marker=marker, color=colour, label=number)
        everything = [epoch[key] for epochs in folds for epoch in epochs]
        if key != "valid_accuracy" and max(everything) > _WIDE_RANGE * min(everything) > 0:
            axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(title=title, xlabel="epoch")
        if len(folds) <= _FOLDS_NAMED:
            axes.legend(title="fold", ncols=2)
        return _svg(figure, alt)


def reliability(bins: Sequence[dict[str, Any]]) -> Markup:
    """The share that is right over the mean confidence of each bin."""
    alt = f"share that is right over confidence in {len(bins)} bins, beside the diagonal"
    with _style(alt):
        figure, axes = _axes()
        axes.plot([0, 1], [0, 1], ":", color=_INK, label="calibrated")
        sure, right = ([each[key] for each in bins] for key in ("confidence", "right"))
        axes.plot(sure, right, "o-", color=_COLOURS[0], markersize=4, label="run")
        axes.set(title="reliability", xlabel="confidence", ylabel="share that is right")
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend(loc="upper left")
        return _svg(figure, alt)


def scatter(uploads: Sequence[dict[str, Any]], run: str | None) -> Markup:
    """Leaderboard over cross-validation; a ring marks `run`."""
    ringed = f", {run} ringed" if run in [upload["run"] for upload in uploads] else ""
    alt = f"public and private score over CV of {len(uploads)} runs{ringed}"
    with _style(alt):
        figure, axes = _axes()
        for side, marker, colour in (("public", "o", _COLOURS[0]), ("private", "s", _COLOURS[1])):
            known = [upload for upload in uploads if upload[side] is not None]
            points = [(upload["cv"], upload[side]) for upload in known]
            if points:
                axes.plot(*zip(*points, strict=True), marker, color=colour, label=side)
            for point, upload in zip(points, known, strict=True):
                if upload["run"] == run:
                    axes.plot(*point, "o", ms=13, mfc="none", mec=_INK)
        axes.set(title="leaderboard over CV", xlabel="CV score", ylabel="leaderboard score")
        axes.locator_params(nbins=5)
        axes.margins(0.15)
        axes.legend()
        return _svg(figure, alt)


def _style(alt: str) -> AbstractContextManager[None]:
    """The page's look; the identifiers inside a plot derive from what describes it."""
    return matplotlib.rc_context({**_STYLE, "svg.hashsalt": alt})


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4, 3), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure, alt: str) -> Markup:
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=nothing)
    _, _, text = file.getvalue().replace(_INK, "currentColor").partition("<svg")
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # would be there once for each plot of a page
    opening, _, content = text.partition(">")
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    return Markup(f'<svg class="plot" role="img" aria-label="{escape(alt)}"{opening}>{content}')
