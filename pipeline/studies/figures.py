"""Figures of the studies: the same numbers give the same bytes."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_INCHES = (7.0, 4.0)


def new_figure(title: str) -> tuple[Figure, Axes]:
    """One plot with a title, without a global state to close."""
    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    return figure, axes


def png(figure: Figure) -> bytes:
    """The figure's bytes, without the date or the version that made it."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()
