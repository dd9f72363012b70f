"""The results as rows: medians, quartiles, ratios to the standard convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.profiling.measure import Measurement
from pipeline.profiling.roofline import Roofline
from pipeline.profiling.subjects import Candidate, Workload

Quartiles = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One candidate's results; all but its names are None where it failed, for `failure`.

    Times are medians over the rounds, in milliseconds, for the whole batch; with the published
    protocol a "step" is its ten forward passes and there is no backward. Ratios are taken round
    by round before their median. `macs` are multiply-accumulates of one forward pass of the
    batch as executed; `roofline_ms` is the step at the machine's measured limits and
    `roofline_share` how much of the measured step that is.
    """

    model: str
    conv: str
    execution: str
    compiled: bool
    memory_format: str
    batch: int
    rounds: int
    chosen: dict[str, int] | None = None
    parameters: int | None = None
    model_bytes: int | None = None
    macs: int | None = None
    forward_ms: float | None = None
    backward_ms: float | None = None
    step_ms: float | None = None
    step_ms_quartiles: Quartiles | None = None
    ratio_to_standard: float | None = None
    ratio_quartiles: Quartiles | None = None
    inference_ms: float | None = None
    inference_ratio: float | None = None
    peak_bytes: int | None = None
    memory_ratio_to_standard: float | None = None
    kept_bytes: int | None = None
    inference_peak_bytes: int | None = None
    inference_memory_ratio: float | None = None
    roofline_ms: float | None = None
    roofline_share: float | None = None
    failure: str | None = None

    @property
    def name(self) -> str:
        """The candidate in words."""
        return str(
            Candidate(
                conv=self.conv,
                execution=self.execution,
                compiled=self.compiled,
                memory_format=self.memory_format,
            )
        )


def make_rows(
    workload: Workload, measurements: Sequence[Measurement], roofline: Roofline, rounds: int
) -> list[Row]:
    """A row per measurement, in order; the first is the standard that ratios refer to."""
    standard = measurements[0]
    return [_row(workload, each, standard, roofline, rounds) for each in measurements]


def _row(
    workload: Workload, own: Measurement, standard: Measurement, roofline: Roofline, rounds: int
) -> Row:
    names: dict[str, Any] = {
        "model": workload.name,
        "conv": own.candidate.conv,
        "execution": own.candidate.execution,
        "compiled": own.candidate.compiled,
        "memory_format": own.candidate.memory_format,
        "batch": workload.batch,
        "rounds": rounds,
    }
    if own.failure is not None:
        return Row(**names, failure=own.failure)
    ratios = {} if standard.failure is not None else _ratios(own, standard)
    return Row(**names, **_costs(own, roofline), **ratios)


def _costs(own: Measurement, roofline: Roofline) -> dict[str, Any]:
    found, step = own.footprint, own.step_seconds()
    assert found is not None
    median = float(np.median(step))
    floor = roofline.seconds(found.step_work)
    return {
        "chosen": found.chosen,
        "parameters": found.parameters,
        "model_bytes": found.model_bytes,
        "macs": found.forward_macs,
        **{f"{phase}_ms": _ms(own.seconds[phase]) for phase in own.seconds if phase != "optimizer"},
        "step_ms": 1000 * median,
        "step_ms_quartiles": _quartiles([1000 * seconds for seconds in step]),
        "peak_bytes": found.peak_bytes,
        "kept_bytes": found.kept_bytes,
        "inference_peak_bytes": found.inference_peak_bytes,
        "roofline_ms": 1000 * floor,
        "roofline_share": floor / median,
    }


def _ratios(own: Measurement, standard: Measurement) -> dict[str, Any]:
    mine, others = own.footprint, standard.footprint
    assert mine is not None
    assert others is not None
    steps = _by_round(own.step_seconds(), standard.step_seconds())
    inference = _by_round(own.seconds["inference"], standard.seconds["inference"])
    return {
        "ratio_to_standard": float(np.median(steps)),
        "ratio_quartiles": _quartiles(steps),
        "inference_ratio": float(np.median(inference)),
        "memory_ratio_to_standard": mine.peak_bytes / others.peak_bytes,
        "inference_memory_ratio": mine.inference_peak_bytes / others.inference_peak_bytes,
    }


def _by_round(own: Sequence[float], standard: Sequence[float]) -> list[float]:
    return [mine / other for mine, other in zip(own, standard, strict=True)]


def _ms(seconds: Sequence[float]) -> float:
    return 1000 * float(np.median(seconds))


def _quartiles(values: Sequence[float]) -> Quartiles:
    low, high = np.quantile(values, (0.25, 0.75))
    return float(low), float(high)
