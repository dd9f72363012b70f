"""Time and memory against parameters."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.profiling.rows import Row

_MARKERS = "osD^vPX*<>hp"


def plot_rows(title: str, rows: Sequence[Row]) -> bytes:
    """A PNG: step time and peak memory of every row that did not fail, over its parameters."""
    measured = [row for row in rows if row.failure is None]
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    times, memory = figure.subplots(1, 2, sharex=True)
    _draw(times, measured, "step [ms]", [row.step_ms or 0 for row in measured])
    _draw(memory, measured, "peak memory [MB]", [(row.peak_bytes or 0) / 1e6 for row in measured])
    handles = times.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize=8)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()


def _draw(axes: Axes, rows: Sequence[Row], label: str, values: Sequence[float]) -> None:
    """One colour per variant, one marker per way to execute it."""
    convs = list(dict.fromkeys(row.conv for row in rows))
    ways = list(dict.fromkeys(row.name.removeprefix(row.conv) for row in rows))
    for row, value in zip(rows, values, strict=True):
        marker = _MARKERS[ways.index(row.name.removeprefix(row.conv)) % len(_MARKERS)]
        colour = f"C{convs.index(row.conv) % 10}"
        axes.scatter(row.parameters or 0, value, marker=marker, c=colour, alpha=0.7, label=row.name)
    axes.set(xlabel="parameters", ylabel=label)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
