"""Plots are part of a page: its colours, nothing from outside, the same bytes each time."""

import re
from xml.etree import ElementTree

from pipeline.report.plots import curves, reliability, scatter

EPOCHS = [
    [{"train_loss": 2.0 / n, "valid_loss": 40.0 / n**3, "valid_accuracy": n / 5} for n in (1, 2, 3)]
] * 2
BINS = [{"confidence": 0.5, "right": 0.4}, {"confidence": 0.9, "right": 0.95}]
UPLOADS = [{"run": "<a>", "cv": 0.5, "public": 0.4, "private": None}]


def all_plots():
    return [*curves(EPOCHS), reliability(BINS), scatter(UPLOADS, "<a>")]


def test_plots_are_well_formed_take_the_pages_colour_and_share_no_identifiers():
    plots = all_plots()

    assert len(plots) == 5
    for plot in plots:
        ElementTree.fromstring(plot)
        assert 'role="img" aria-label="' in plot
        assert "currentColor" in plot
        assert "#010203" not in plot
        assert not re.findall(r'(?:href|src)="(?!#)', plot)
    identifiers = [name for plot in plots for name in re.findall(r' id="([^"]*)"', plot)]
    assert len(identifiers) == len(set(identifiers))
    assert "&lt;a&gt; ringed" in plots[-1]


def test_the_same_figures_give_the_same_bytes():
    assert all_plots() == all_plots()
