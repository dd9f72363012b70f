"""reproduce: measure the cells of a study that are missing, and write the results page anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from pipeline.artifacts import read_json, write_json
from pipeline.errors import ConfigError
from pipeline.stages.console import say, say_table
from pipeline.stages.settings import HOSTS, Settings
from pipeline.studies.cells import SCALES, Bench, Cell, Study
from pipeline.studies.page import write_page
from pipeline.studies.registry import chosen_studies
from pipeline.studies.store import result_path, studies_folder, write_result
from pipeline.studies.table import study_rows
from pipeline.training.deadline import Deadline, parse_budget

# Where, when and how often; what is trained is the study's.
_OF_A_STUDY = ("host", "force", "budget", "launch", "root")


def reproduce(settings: Settings, study: str, scale: str, seeds: Sequence[str]) -> None:
    """Measure what is missing of the studies, for every seed; stopped, rerun to go on.

    Raises:
        ConfigError: there is no such study, scale or seed, or a setting is no choice of a study.
        BudgetError: the budget ended; what was finished stays.
        PipelineError: a cell failed; the others' results stay.
    """
    studies, numbers = chosen_studies(study), [_seed(text) for text in seeds]
    _check(settings, scale)
    bench = Bench(
        settings=settings,
        scale=scale,
        deadline=Deadline.after(parse_budget(settings.budget)),
        scratch=studies_folder(settings.root) / ".scratch",
    )
    with bench.deadline.heeding_signals():
        for each in studies:
            for seed in numbers:
                _measure_missing(bench, each.cells(scale, seed))
    for each in studies:
        _print(settings, each, scale)
    if scale != "smoke":
        say("reproduce", f"written: {write_page(settings.root)}")


def _seed(text: str) -> int:
    if not text.strip().isdecimal():
        raise ConfigError(f"SEEDS={text!r}: whole numbers, separated by commas, such as 0,1,2")
    return int(text)


def _check(settings: Settings, scale: str) -> None:
    if scale not in SCALES:
        raise ConfigError(f"SCALE={scale!r} is unknown; choose from {', '.join(SCALES)}")
    if settings.host not in HOSTS:
        raise ConfigError(f"HOST={settings.host!r} is unknown; choose from {', '.join(HOSTS)}")
    own = Settings(**{name: getattr(settings, name) for name in _OF_A_STUDY})
    for field in fields(Settings):
        value = getattr(settings, field.name)
        if value != getattr(own, field.name):
            raise ConfigError(
                f"{field.name.upper()}={value!r}: a study trains what its document has; leave it "
                "out, or choose STUDY, SCALE and SEEDS"
            )


def _measure_missing(bench: Bench, cells: Sequence[Cell]) -> None:
    for number, cell in enumerate(cells, 1):
        path = result_path(bench.settings.root, bench.scale, cell)
        if path.exists():
            continue
        bench.deadline.check()
        say("reproduce", f"{cell.study} {number}/{len(cells)}: {cell.name}")
        spent = bench.scratch / cell.study / bench.scale / f"{cell.name}.seconds.json"
        with _adding_to(spent) as seconds:
            outcome = cell.measure(bench, cell)
        write_result(path, bench.scale, cell, outcome, seconds())
        spent.unlink()
        bench.state_of(cell).unlink(missing_ok=True)


@contextmanager
def _adding_to(path: Path) -> Iterator[Callable[[], float]]:
    """Seconds from the first start of a cell on, stops left out; kept where the cell is stopped."""
    before = float(read_json(path)) if path.exists() else 0.0
    start = time.monotonic()
    try:
        yield lambda: before + time.monotonic() - start
    finally:
        write_json(path, before + time.monotonic() - start)


def _print(settings: Settings, study: Study, scale: str) -> None:
    say("reproduce", f"{study.title}, scale {scale}")
    rows = study_rows(settings.root, study, scale)
    say_table(
        "reproduce",
        [
            (f"{row.part}: {row.variant}, {row.figure}", row.ours, f"published {row.published}")
            for row in rows
        ],
    )
