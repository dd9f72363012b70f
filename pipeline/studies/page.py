"""submissions/RESULTS.md: every study's figures beside the published ones, made from its JSON."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifacts import write_whole
from pipeline.studies.registry import STUDIES
from pipeline.studies.store import read_results
from pipeline.studies.table import study_rows

PAGE = "RESULTS.md"
_SHOWN_SCALES = ("cpu", "gpu")


def write_page(root: Path) -> Path:
    """Write the page anew; the same results give the same bytes."""
    path = root / "submissions" / PAGE
    write_whole(path, page(root).encode())
    return path


def page(root: Path) -> str:
    """The whole page as Markdown."""
    sections = ["# Published results, measured again", ""]
    for study in STUDIES.values():
        for scale in _SHOWN_SCALES:
            if read_results(root, study.name, scale):
                sections += [f"## {study.title} ({scale})", ""]
                sections += _table(root, study.name, scale)
    return "\n".join(sections).rstrip() + "\n"


def _table(root: Path, name: str, scale: str) -> list[str]:
    lines = ["| part | variant | figure | published | ours | n | ratio | |", "|" + " --- |" * 8]
    for row in study_rows(root, STUDIES[name], scale):
        cells = [row.part, row.variant, row.figure, row.published, row.ours, row.n, row.ratio]
        lines.append("| " + " | ".join([*cells, row.verdict]) + " |")
    return [*lines, ""]
