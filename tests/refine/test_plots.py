"""Plots of refinements show what they are given."""

from __future__ import annotations

import pytest
from matplotlib.mathtext import MathTextParser

from pipeline.metrics.decisions import Decision
from pipeline.refine.plots import plot_decision


@pytest.mark.parametrize(
    "decision", [Decision("weights", (0.5, 2.0, 1.0)), Decision("cuts", (0.5, 1.5))]
)
def test_dollars_in_class_names_are_no_formulas(
    monkeypatch: pytest.MonkeyPatch, decision: Decision
) -> None:
    def parse_nothing(_: object, text: str, *__: object, **___: object) -> None:
        raise AssertionError(f"taken for a formula: {text}")

    monkeypatch.setattr(MathTextParser, "parse", parse_nothing)

    image = plot_decision("prices", decision, ["$5", "$10", "$20_$"])

    assert image.startswith(b"\x89PNG")
