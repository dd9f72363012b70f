"""submissions/RESULTS.md: every study's figures beside the published ones, made from its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts import write_whole
from pipeline.studies.cells import Result, Study
from pipeline.studies.registry import STUDIES
from pipeline.studies.store import read_results, studies_folder
from pipeline.studies.table import Row, study_rows

PAGE = "RESULTS.md"
_SHOWN_SCALES = ("cpu", "gpu")
_HEAD = """# Published results, measured again

Written by `make reproduce` from the JSON files below `submissions/studies/`; edit nothing here.
Means over seeds ± their standard deviation, n seeds (times repetitions within each, of which the
median counts). A ratio is ours by theirs. **missed** marks a published figure that ours does not
reach. Scores are the local host's, on a rebuilt competition, not kaggle.com's.
"""


def write_page(root: Path) -> Path:
    """Write the page and its plots anew; the same results give the same bytes."""
    text, pictures = page(root)
    for picture, content in pictures.items():
        write_whole(picture, content)
    path = root / "submissions" / PAGE
    write_whole(path, text.encode())
    return path


def page(root: Path) -> tuple[str, dict[Path, bytes]]:
    """The whole page as Markdown, and the pictures that it shows, by path; nothing is written."""
    sections, pictures = [_HEAD], dict[Path, bytes]()
    for study, scale, results in _measured(root):
        drawn = study.plots(results)
        folder = studies_folder(root) / study.name / scale
        pictures |= {folder / name: content for name, content in drawn.items()}
        sections.append(_section(root, study, scale, results, list(drawn)))
    return "\n".join(sections).rstrip() + "\n", pictures


def _measured(root: Path) -> list[tuple[Study, str, list[Result]]]:
    """What there are results of."""
    found = [
        (study, scale, read_results(root, study.name, scale))
        for study in STUDIES.values()
        for scale in _SHOWN_SCALES
    ]
    return [each for each in found if each[2]]


def _section(
    root: Path, study: Study, scale: str, results: Sequence[Result], pictures: Sequence[str]
) -> str:
    rows = study_rows(root, study, scale)
    published = [row for row in rows if row.published]
    others = [row for row in rows if not row.published]
    parts = [
        f"## {study.title} ({scale})",
        _table(published),
        study.explain(results),
        *(_picture(study, scale, name) for name in pictures),
        "### Measured besides",
        _table(others),
        _origin(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(rows: Sequence[Row]) -> str:
    heading = "| part | variant | figure | published | ours | n | ratio | |"
    lines = [heading, "|" + " --- |" * 8]
    for row in rows:
        cells = [row.part, row.variant, row.figure, row.published, row.ours, row.n, row.ratio]
        lines.append("| " + " | ".join([*cells, row.verdict]) + " |")
    return "\n".join(lines)


def _picture(study: Study, scale: str, name: str) -> str:
    return f"![{name.removesuffix('.png').replace('-', ' ')}](studies/{study.name}/{scale}/{name})"


def _origin(results: Sequence[Result]) -> str:
    """Commands, machines, versions and commits that the figures come from."""
    commands = sorted({f"`{result['command']}`" for result in results})
    machines = sorted({_machine(result) for result in results})
    commits = sorted({_commit(result) for result in results})
    minutes = sum(float(result["seconds"]) for result in results) / 60
    return (
        f"Commands: {', '.join(commands)}; {minutes:.0f} minutes in all. "
        f"Machines: {'; '.join(machines)}. Commits: {'; '.join(commits)}."
    )


def _commit(result: Result) -> str:
    return str(result["commit"])[:7] + (", modified" if result["modified"] else "")


def _machine(result: Result) -> str:
    machine = result["machine"]
    what = ", ".join(machine["gpus"]) or f"{machine['cores']} cores of {machine['processor']}"
    return f"{what}, torch {result['versions']['torch']}"
