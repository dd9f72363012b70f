"""Time and memory of networks side by side, as a cell's outcome."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

from tqdm import tqdm

from pipeline.profiling.clock import Clock
from pipeline.profiling.measure import Measurement, compare
from pipeline.profiling.roofline import Roofline, measure_roofline
from pipeline.profiling.rows import make_rows
from pipeline.profiling.subjects import LIBRARY, STANDARD_CONV, Candidate, Workload
from pipeline.studies.cells import Bench, Cell, Outcome
from pipeline.training.execution import Execution, choose_execution

_INFERENCE = "inference"
_PER_SECOND = {"s": 1, "ms": 1000}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """What is run, and which costs become figures: the whole, inference, and named phases.

    Attributes:
        protocol: "step" or "published", as in `pipeline.profiling.protocols`.
        unit: of times, s or ms.
    """

    phases: tuple[str, ...] = ()
    protocol: str = "step"
    unit: str = "s"


def measure_costs(
    bench: Bench,
    cell: Cell,
    workload: Workload,
    entries: Sequence[Candidate],
    sides: Sides,
    rounds: int,
) -> Outcome:
    """Measure `entries` in interleaved rounds; the first is what the others' ratios refer to.

    Figures are times [s or ms] and peak memory [MB, a million bytes] of the first, and for every
    other its ratios, taken round by round before their median. What failed has none; all that was
    measured stands in `setup` as the profile's rows.
    """
    execution = choose_execution()
    measured = side_by_side(
        bench, cell, workload, entries, execution, protocol=sides.protocol, rounds=rounds
    )
    roofline = _roofline(execution.device, execution.precision)
    first, *others = measured
    ratios = {} if first.failure else _ratios(first, others, sides)
    return Outcome(
        figures={**_absolute(first, sides), **{n: statistics.median(v) for n, v in ratios.items()}},
        setup={
            "rows": [asdict(row) for row in make_rows(workload, measured, roofline, rounds)],
            "protocol": sides.protocol,
            "input": [workload.batch, *workload.shape],
            "roofline": asdict(roofline),
            "execution": {name: value for name, value, _ in execution.table()},
        },
        n=rounds,
        spread={name: (min(v), max(v)) for name, v in ratios.items() if len(v) > 1},
    )


def side_by_side(
    bench: Bench,
    cell: Cell,
    workload: Workload,
    entries: Sequence[Candidate],
    execution: Execution,
    *,
    protocol: str = "step",
    rounds: int,
) -> list[Measurement]:
    """`compare` with a progress bar, in a process prepared for the execution.

    Raises:
        BudgetError: the deadline came first; nothing is kept.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells of every memory recording
    execution.prepare_process()
    with tqdm(total=len(entries) * (rounds + 1), desc=cell.name, unit="turn") as bar:

        def progress() -> None:
            bar.update()
            bench.deadline.check()

        return compare(
            workload,
            entries,
            execution,
            protocol=protocol,
            rounds=rounds,
            progress=progress,
        )


@cache
def _roofline(device: str, precision: str) -> Roofline:
    """Measured once in a process."""
    return measure_roofline(Clock(device), precision)


def label_of(candidate: Candidate) -> str:
    """How figures call a candidate: by its execution, or by its network where those differ."""
    if "/" in candidate.conv:
        return candidate.conv.replace("/", "_")
    if candidate.conv == STANDARD_CONV:
        return "standard"
    return "chain" if candidate.execution == LIBRARY else candidate.execution


def _absolute(first: Measurement, sides: Sides) -> dict[str, float]:
    """Times and memory of the candidate that the others are compared with."""
    found = first.footprint
    if first.failure is not None or found is None:
        return {}
    label, scale = label_of(first.candidate), _PER_SECOND[sides.unit]
    times = {
        f"{label}_{name}_{sides.unit}": scale * statistics.median(values)
        for name, values in _times(first, sides).items()
    }
    return {
        **times,
        f"{label}_peak_MB": found.peak_bytes / 1e6,
        f"{label}_inference_peak_MB": found.inference_peak_bytes / 1e6,
    }


def _ratios(
    first: Measurement, others: Sequence[Measurement], sides: Sides
) -> dict[str, list[float]]:
    """By figure, one value per round; memory is the same in every round."""
    ratios: dict[str, list[float]] = {}
    for own in others:
        if own.failure is not None:
            continue
        label = label_of(own.candidate)
        base = _times(first, sides)
        for name, values in _times(own, sides).items():
            pairs = zip(values, base[name], strict=True)
            ratios[f"{label}_{name}_ratio"] = [mine / other for mine, other in pairs]
        ratios |= {f"{label}_{name}_ratio": [value] for name, value in _memory(own, first).items()}
    return ratios


def _times(measured: Measurement, sides: Sides) -> dict[str, list[float]]:
    """Seconds by round."""
    phases = {name: measured.seconds[name] for name in (*sides.phases, _INFERENCE)}
    return {"step": measured.step_seconds(), **phases}


def _memory(own: Measurement, first: Measurement) -> dict[str, float]:
    mine, others = own.footprint, first.footprint
    assert mine is not None
    assert others is not None
    return {
        "peak": mine.peak_bytes / others.peak_bytes,
        "inference_peak": mine.inference_peak_bytes / others.inference_peak_bytes,
    }
