"""A drawing of what each convolution computes: which numbers make one output channel."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.studies.figures import png

_CHANNELS = 4
_KERNEL = 3
_COLOURS = ("C0", "C1", "C2", "C3")


def draw_convolutions() -> bytes:
    """A PNG: one output channel of the standard convolution and of channel selection."""
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1)
    _standard(above)
    _selection(below)
    for axes in (above, below):
        axes.set_xlim(-0.5, 15.4)
        axes.set_ylim(-0.6, 4.6)
        axes.set_aspect("equal")
        axes.axis("off")
    return png(figure)


def _standard(axes: Axes) -> None:
    axes.set_title(
        "subkernel: a kernel of its own for every input channel, in · K² numbers", fontsize=10
    )
    _channels(axes, 0.0)
    _arrow(axes, 3.6, 4.6)
    for channel in range(_CHANNELS):
        _kernel(axes, 4.8 + 1.8 * channel, 1.2, _COLOURS[channel])
    _arrow(axes, 12.0, 13.0, "sum")
    _map(axes, 13.2, 0.8, "0.35")


def _selection(axes: Axes) -> None:
    axes.set_title(
        "channel-selection: one weighted sum of the channels, then one kernel: in + K² numbers",
        fontsize=10,
    )
    _channels(axes, 0.0)
    _arrow(axes, 3.6, 4.6, "w · x")
    for channel in range(_CHANNELS):
        cell = Rectangle((4.8 + 0.6 * channel, 1.5), 0.6, 0.6, fc=_COLOURS[channel], ec="black")
        axes.add_patch(cell)
    _arrow(axes, 7.4, 8.4)
    _map(axes, 8.6, 0.8, "0.75")
    _kernel(axes, 10.6, 1.2, "0.55")
    _arrow(axes, 12.0, 13.0)
    _map(axes, 13.2, 0.8, "0.35")


def _channels(axes: Axes, left: float) -> None:
    """The input: one map behind the other."""
    for channel in reversed(range(_CHANNELS)):
        _map(axes, left + 0.45 * channel, 0.45 * channel, _COLOURS[channel])


def _map(axes: Axes, left: float, bottom: float, colour: str) -> None:
    axes.add_patch(Rectangle((left, bottom), 1.8, 1.8, fc=colour, ec="black", alpha=0.9))


def _kernel(axes: Axes, left: float, bottom: float, colour: str) -> None:
    for row in range(_KERNEL):
        for column in range(_KERNEL):
            place = (left + 0.4 * column, bottom + 0.4 * row)
            axes.add_patch(Rectangle(place, 0.4, 0.4, fc=colour, ec="black"))


def _arrow(axes: Axes, left: float, right: float, label: str = "") -> None:
    axes.annotate("", (right, 1.8), (left, 1.8), arrowprops={"arrowstyle": "->"})
    axes.text((left + right) / 2, 2.0, label, ha="center", fontsize=9)
