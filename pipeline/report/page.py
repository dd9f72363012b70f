"""The pages: of one run, and of all runs of a competition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.pages import picture, render_page
from pipeline.report import plots

_TEMPLATES = Path(__file__).with_name("templates")


def render_run(facts: dict[str, Any], images: Tensor) -> str:
    """The page of one run.

    `facts` holds plain values, and of the mistakes the rows in `images`, uint8 [N, H, W, C].
    """
    return render_page(
        _TEMPLATES,
        "run.html",
        facts=facts,
        curves=plots.curves(facts["epochs"]) if facts["epochs"] else [],
        reliability=plots.reliability(facts["calibration"]["bins"]),
        mistakes=[
            {**mistake, "picture": picture(images[mistake["row"]])} for mistake in facts["mistakes"]
        ],
        boards=_with_plots(facts["boards"], facts["run"]),
    )


def render_runs(facts: dict[str, Any]) -> str:
    """The page of all runs of a competition."""
    return render_page(
        _TEMPLATES, "runs.html", facts=facts, boards=_with_plots(facts["boards"], None)
    )


def _with_plots(boards: Sequence[dict[str, Any]], run: str | None) -> list[dict[str, Any]]:
    return [{**board, "plot": plots.scatter(board["uploads"], run)} for board in boards]
