"""Results on disk: one JSON file per cell, below submissions/studies/<study>/<scale>/."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

from pipeline.artifacts import read_json, write_json
from pipeline.errors import DataError
from pipeline.stages.provenance import provenance
from pipeline.studies.cells import Cell, Outcome, Result


def studies_folder(root: Path) -> Path:
    """Where the results of all studies lie."""
    return root / "submissions/studies"


def result_path(root: Path, scale: str, cell: Cell) -> Path:
    """The file of one cell."""
    return studies_folder(root) / cell.study / scale / f"{cell.name}.json"


def write_result(path: Path, scale: str, cell: Cell, outcome: Outcome, seconds: float) -> None:
    """Keep what a cell found, and on what it was found."""
    record = {
        "study": cell.study,
        "part": cell.part,
        "variant": cell.variant,
        "seed": cell.seed,
        "scale": scale,
        **asdict(outcome),
        "seconds": round(seconds, 1),
        "command": f"make reproduce STUDY={cell.study} SCALE={scale} SEEDS={cell.seed}",
        **provenance(),
    }
    write_json(path, record)


def read_results(root: Path, study: str, scale: str) -> list[Result]:
    """Every result of a study at a scale, in the order of their names.

    Raises:
        DataError: a file is no result.
    """
    folder = studies_folder(root) / study / scale
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def _read(path: Path) -> Result:
    values = read_json(path)
    needed = {"study", "part", "variant", "seed", "figures", "curves", "machine", "versions"}
    missing = sorted(needed - set(values)) if isinstance(values, dict) else sorted(needed)
    if missing:
        raise DataError(
            f"{path} is no result of a study: {len(missing)} keys are missing, first "
            f"{missing[0]!r}; delete it and rerun"
        )
    return Result(path, values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A figure over the seeds: mean, deviation (0 for one seed) and number."""

    mean: float
    std: float
    n: int

    def __str__(self) -> str:
        if self.std == 0 and self.mean == int(self.mean):
            return f"{int(self.mean):,}"
        if self.n == 1:
            return f"{self.mean:.4g}"
        places = max(0, 4 - math.ceil(math.log10(abs(self.mean) + 1e-12)))
        return f"{self.mean:.{places}f} ± {self.std:.{places}f}"


def summarise(results: Sequence[Result], part: str, variant: str, figure: str) -> Summary | None:
    """A figure over the seeds that measured it; None: none has."""
    values = [
        result.figures[figure]
        for result in results
        if result["part"] == part and result["variant"] == variant and figure in result.figures
    ]
    if not values:
        return None
    return Summary(mean=mean(values), std=stdev(values) if len(values) > 1 else 0.0, n=len(values))
