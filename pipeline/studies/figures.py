"""Plots of the studies: the same results give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.studies.cells import Result

_DPI = 110


def panels(title: str, columns: int, *, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    """A figure with `columns` axes side by side; `height` in inches."""
    figure = Figure(figsize=(5.0 * columns, height), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes: list[Axes] = list(figure.subplots(1, columns, squeeze=False).ravel())
    for each in axes:
        each.grid(alpha=0.3)
    return figure, axes


def png(figure: Figure) -> bytes:
    """The figure as a file, without the name of what drew it."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=_DPI, metadata={"Software": None})
    return image.getvalue()


def of_part(results: Sequence[Result], part: str) -> list[Result]:
    """The results of one part, in order."""
    return [result for result in results if result["part"] == part]
