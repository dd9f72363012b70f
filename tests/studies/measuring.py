"""A study measured at the smallest scale, by the command that users run."""

from __future__ import annotations

from pathlib import Path

from pipeline.stages.settings import Settings
from pipeline.studies.cells import Result
from pipeline.studies.registry import STUDIES
from pipeline.studies.reproduce import reproduce
from pipeline.studies.store import read_results

PNG = b"\x89PNG\r\n"


def measured(root: Path, study: str) -> list[Result]:
    """The results of every cell."""
    reproduce(Settings(root=root), study, "smoke", ["0"])
    results = read_results(root, study, "smoke")
    assert len(results) == len(STUDIES[study].cells("smoke", 0))
    return results


def figures(results: list[Result], part: str, variant: str) -> dict[str, float]:
    """Those of one cell."""
    (found,) = [each for each in results if (each["part"], each["variant"]) == (part, variant)]
    return found.figures


def assert_explained_and_drawn(study: str, results: list[Result], names: set[str]) -> None:
    """Words and plots are made from real results, the plots always of the same bytes."""
    chosen = STUDIES[study]
    text, drawn = chosen.explain(results), chosen.plots(results)
    assert "refute" in text
    assert "nan" not in text
    assert drawn.keys() == names
    assert all(image.startswith(PNG) for image in drawn.values())
    assert chosen.plots(results) == drawn
    assert chosen.explain([]) == ""
    assert chosen.plots([]) == {}


def assert_published_figures_are_measured(study: str, results: list[Result]) -> None:
    """A published figure whose name no cell has would stay "not measured" for ever."""
    names = {(each["part"], each["variant"], name) for each in results for name in each.figures}
    measured = {(each["part"], each["variant"]) for each in results}
    published = {
        (each.part, each.variant, each.figure)
        for each in STUDIES[study].published
        if (each.part, each.variant) in measured  # where work is kept small, some are left out
    }
    assert published <= names


def assert_met_exactly(study: str, results: list[Result]) -> None:
    """Sizes do not depend on a machine: all that must be the same is."""
    exact = [each for each in STUDIES[study].published if each.better == "same"]
    assert exact
    for each in exact:
        assert figures(results, each.part, each.variant)[each.figure] == each.value, each
