"""Published figures beside ours, as rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.studies.cells import Published, Result, Study
from pipeline.studies.store import Summary, read_results, summarise


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One figure: what was published, what was measured here, and how they compare."""

    part: str
    variant: str
    figure: str
    published: str
    ours: str
    n: str
    ratio: str
    verdict: str


def study_rows(root: Path, study: Study, scale: str) -> list[Row]:
    """A row for every figure: those with a published value first, then what else was measured."""
    results = read_results(root, study.name, scale)
    published = {(each.part, each.variant, each.figure): each for each in study.published}
    measured = dict.fromkeys(
        (result["part"], result["variant"], figure)
        for result in results
        for figure in result.figures
    )
    names = [*published, *(name for name in measured if name not in published)]
    return [_row(results, name, published.get(name)) for name in names]


def _row(results: list[Result], name: tuple[str, str, str], published: Published | None) -> Row:
    part, variant, figure = name
    ours = summarise(results, part, variant, figure)
    return Row(
        part=part,
        variant=variant,
        figure=figure,
        published=_number(published.value) if published else "",
        ours=str(ours) if ours else "not measured",
        n=_n(results, part, variant, ours),
        ratio=f"{ours.mean / published.value:.3f}" if ours and published else "",
        verdict=_verdict(published, ours),
    )


def _number(value: float) -> str:
    return f"{value:,}" if value == int(value) else f"{value:.5g}"


def _n(results: list[Result], part: str, variant: str, ours: Summary | None) -> str:
    """Seeds, and repetitions within a seed where there are some."""
    if ours is None:
        return ""
    repeated = [
        result.values["n"]
        for result in results
        if result["part"] == part and result["variant"] == variant
    ]
    return f"{ours.n} x {repeated[0]}" if repeated[0] > 1 else str(ours.n)


def _verdict(published: Published | None, ours: Summary | None) -> str:
    if published is None or ours is None:
        return ""
    met = published.is_met(ours.mean)
    return "" if met is None else "met" if met else "**missed**"
