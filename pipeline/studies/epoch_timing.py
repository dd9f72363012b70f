"""Seconds per epoch of each convolution and execution, by the study's own protocol.

The study timed runs of ten epochs, five of them, variant after variant. A machine that gets slower
in between then favours the first; the order in each round is therefore drawn anew here.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import replace

from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.cache import TensorCache, load_cache
from pipeline.stages.bench_engine import Engine, Subject
from pipeline.stages.chain import prepared
from pipeline.studies.cells import Bench, Cell, Outcome
from pipeline.studies.competing import competition_settings
from pipeline.training.execution import choose_execution

# The study's three, and the execution that its factors allow besides.
VARIANTS: dict[str, tuple[str, str]] = {
    "subkernel": ("subkernel", "folded"),
    "channel-selection-linear": ("channel-selection", "linear"),
    "channel-selection-factored": ("channel-selection", "factored"),
    "channel-selection-folded": ("channel-selection", "folded"),
}


def measure_epochs(bench: Bench, cell: Cell) -> Outcome:
    """Median seconds per epoch of every variant, eager or compiled as the cell says."""
    runs, epochs = bench.pick(smoke=(1, 1), cpu=(5, 1), gpu=(5, 10))
    compiled = cell.variant == "compiled"
    # Compiling more than one network would be most of what a smoke run of the study takes.
    smallest = list(VARIANTS)[: 1 if compiled else 2]
    names = bench.pick(smoke=smallest, cpu=list(VARIANTS), gpu=list(VARIANTS))
    with prepared(competition_settings(bench)) as (competition, cache, _):
        data = load_cache(cache)
    engines: dict[str, Engine] = {}
    for name in names:
        engines[name] = _engine(bench, competition, data, name, compiled=compiled)
        engines[name].epoch()  # compiling and warming up are no part of an epoch
    seconds = _rounds(bench, engines, runs, epochs)
    ratios = {
        name: [own / other for own, other in zip(each, seconds["subkernel"], strict=True)]
        for name, each in seconds.items()
    }
    per_epoch = {f"{name}_s": statistics.median(each) for name, each in seconds.items()}
    to_standard = {f"{name}_ratio": statistics.median(each) for name, each in ratios.items()}
    return Outcome(
        figures=per_epoch | to_standard,
        curves=seconds,
        setup={"epochs_per_run": epochs, "images": len(data.train.images)},
        n=runs,
        spread={f"{name}_ratio": (min(each), max(each)) for name, each in ratios.items()},
    )


def _rounds(
    bench: Bench, engines: dict[str, Engine], runs: int, epochs: int
) -> dict[str, list[float]]:
    """Seconds per epoch by variant, one value per run."""
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    with tqdm(total=runs * len(engines), desc="epochs", unit="run") as bar:
        for _ in range(runs):
            for name in order.sample(sorted(engines), len(engines)):
                bench.deadline.check()
                took = sum(engines[name].epoch() for _ in range(epochs))
                seconds[name].append(took / epochs)
                bar.update()
    return seconds


def _engine(
    bench: Bench, competition: Competition, data: TensorCache, name: str, *, compiled: bool
) -> Engine:
    conv, execution = VARIANTS[name]
    settings = replace(
        competition_settings(bench), conv=conv, execution=execution, recipe="published"
    )
    asked = {"compile": "on" if compiled else "off"}
    subject = Subject(
        settings,
        choose_execution(asked=asked),
        data.train.images,
        data.train.known_labels(),
        len(data.classes),
        competition.data.mirror is not False,
    )
    return subject.for_network(asked).start()
