"""The plot of a benchmark: the engine beside the yardstick, and cost over data."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure


def plot_bench(found: dict[str, Any]) -> bytes:
    """A PNG of the figures that `bench` prints."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(f"{found['model']} {found['conv']} on {found['machine']['processor']}")
    beside, growth = figure.subplots(1, 2)
    names = ["yardstick", "engine"]
    seconds = [found["yardstick_epoch_seconds"], found["epoch_seconds"]]
    beside.bar_label(beside.barh(names, seconds), fmt="%.1f s")
    beside.margins(x=0.15)
    beside.set(title=f"one epoch: {found['ratio']} times as fast", xlabel="seconds")
    measured = found["epoch_seconds_by_data_size"]
    sizes = [int(times) for times in measured]
    growth.plot(sizes, list(measured.values()), "o-", label="measured")
    growth.plot(sizes, [times * measured["1"] for times in sizes], ":", label="proportional")
    growth.set(title="cost over data", xlabel="times the images", ylabel="seconds an epoch")
    growth.legend()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()
