"""The convolutions' claims, measured: `python -m tests.benchmarks.convolutions [claim ...]`.

Each claim prints the table it was read from, and its bound beside what was found. Run it on a
machine with nothing else to do: a verdict is only as quiet as the machine.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import nn
from tqdm import tqdm

from pipeline.artifacts import write_json
from pipeline.convs import make_conv
from pipeline.profiling.clock import Clock
from pipeline.profiling.measure import Measurement, compare
from pipeline.profiling.roofline import Roofline, measure_roofline
from pipeline.profiling.rows import make_rows
from pipeline.profiling.subjects import CONTIGUOUS, Candidate, Workload, candidates
from pipeline.profiling.table import print_roofline, print_rows
from pipeline.profiling.workloads import make_workload
from pipeline.stages.provenance import provenance
from pipeline.training.execution import Execution, choose_execution

STANDARD = Candidate(conv="subkernel", execution="folded")
FACTORED = ("folded", "factored", "recomputed")


@dataclass
class Bench:
    """Where the claims are measured, and what was found so far."""

    execution: Execution
    roofline: Roofline
    rounds: int
    found: list[dict[str, Any]]

    def run(
        self, title: str, workload: Workload, entries: Sequence[Candidate], protocol: str = "step"
    ) -> dict[str, Measurement]:
        """Measure side by side, print the table; the measurements by the candidates' words."""
        total = len(entries) * (self.rounds + 1)
        with tqdm(total=total, desc=title, file=sys.stderr, leave=False) as bar:
            measured = compare(
                workload,
                entries,
                self.execution,
                protocol=protocol,
                rounds=self.rounds,
                progress=bar.update,
            )
        rows = make_rows(workload, measured, self.roofline, self.rounds)
        print_rows(f"\n{title}: {workload.batch} x {workload.shape}, {protocol}", rows)
        self.found += [{"claim": title, "protocol": protocol, **asdict(row)} for row in rows]
        return {str(each.candidate): each for each in measured}


def time_ratio(own: Measurement, other: Measurement, phases: Sequence[str] = ()) -> float:
    """Median over the rounds of one's seconds by the other's; by default of the whole step.

    Not a number where one of them failed.
    """
    if own.failure or other.failure:
        return math.nan
    pairs = zip(_seconds(own, phases), _seconds(other, phases), strict=True)
    return float(np.median([mine / others for mine, others in pairs]))


def _seconds(measured: Measurement, phases: Sequence[str]) -> list[float]:
    if not phases:
        return measured.step_seconds()
    return [sum(parts) for parts in zip(*(measured.seconds[p] for p in phases), strict=True)]


def memory_ratio(own: Measurement, other: Measurement) -> float:
    """One's peak memory by the other's; not a number where one of them failed."""
    if own.footprint is None or other.footprint is None:
        return math.nan
    return own.footprint.peak_bytes / other.footprint.peak_bytes


def worst(ratios: Iterable[float]) -> float:
    """The largest of those that are numbers."""
    return max((ratio for ratio in ratios if not math.isnan(ratio)), default=math.nan)


def verdict(claim: str, found: float, bound: float) -> None:
    """One line: what was claimed, what was found."""
    answer = "holds" if found <= bound else "DOES NOT HOLD"
    if math.isnan(found):
        answer = "cannot be told, see the table"
    print(f"  {claim}: {found:.3f}, at most {bound}: {answer}")


def resnet14(bench: Bench) -> None:
    """One training step: channel-selection beside the standard convolution."""
    workload = make_workload("resnet14", 0, bench.execution.device)
    found = bench.run("resnet14", workload, candidates(workload, ["channel-selection"]))
    auto = found["channel-selection auto"]
    verdict("auto / standard, time", time_ratio(auto, found[str(STANDARD)]), 1.05)
    singles = [found[f"channel-selection {name}"] for name in (*FACTORED, "linear")]
    verdict("auto / best single", worst(time_ratio(auto, single) for single in singles), 1.05)


def vbnet(bench: Bench) -> None:
    """The bottleneck VBNet by both protocols; the factored execution is the published chain."""
    workload = make_workload("vbnet", 0, bench.execution.device)
    entries = candidates(workload, ["bottleneck"])
    for protocol in ("step", "published"):
        found = bench.run("vbnet", workload, entries, protocol)
        auto, standard = found["bottleneck auto"], found[str(STANDARD)]
        if protocol == "step":
            verdict("auto / standard, time", time_ratio(auto, standard), 0.9)
            verdict("auto / standard, memory", memory_ratio(auto, standard), 1.0)


def layers(bench: Bench) -> None:
    """One 3D layer, forward and backward, with and without norms inside the chain."""
    workload = make_workload("conv-layer3d", 0, bench.execution.device)
    chains = ["bottleneck2", "separable"]
    entries = candidates(workload, [*chains, *(f"{chain}-norm" for chain in chains)])
    found = bench.run("conv-layer3d", workload, entries)
    standard = found[str(STANDARD)]
    for chain in chains:
        auto = found[f"{chain} auto"]
        seconds = time_ratio(auto, standard, ("forward", "backward"))
        verdict(f"{chain} auto / standard, time", seconds, 1.0)
        verdict(f"{chain} auto / standard, memory", memory_ratio(auto, standard), 1.0)


def shifted(bench: Bench) -> None:
    """The MNIST net's training with shifted slices beside the library in both memory formats."""
    workload = make_workload("mnist-net", 0, bench.execution.device)
    library = [STANDARD, Candidate(conv="subkernel", execution="folded", memory_format=CONTIGUOUS)]
    entry = Candidate(conv="subkernel", execution="shifted")
    found = bench.run("mnist-net", workload, [*library, entry])
    phases = ("forward", "backward")
    ratios = {each: time_ratio(found[str(entry)], found[str(each)], phases) for each in library}
    for each, ratio in ratios.items():
        print(f"  shifted / library, {each.memory_format}: {ratio:.3f}")
    verdict("shifted / library in its best format, time", worst(ratios.values()), 2.0)


def winograd(bench: Bench) -> None:
    """Layers of few and many channels by Winograd's algorithm beside the library."""
    entry = Candidate(conv="subkernel", execution="winograd")
    for channels, side in ((16, 32), (32, 16), (64, 8), (128, 8), (256, 8)):
        workload = Workload(
            name=f"{channels} channels, {side} x {side}",
            build=partial(_layer, channels, 3, 2),
            shape=(channels, side, side),
            batch=128,
            input_gradient=True,
        )
        found = bench.run(workload.name, workload, [STANDARD, entry])
        pair = found[str(entry)], found[str(STANDARD)]
        verdict("winograd / library, time", time_ratio(*pair, ("forward", "backward")), 0.9)


def direct(bench: Bench) -> None:
    """Layers of resnet14 with strides by native plain sums."""
    entry = Candidate(conv="subkernel", execution="direct")
    for channels, out, side in ((16, 32, 32), (32, 64, 16)):
        workload = Workload(
            name=f"{channels} to {out} channels, {side} x {side}",
            build=partial(_layer, channels, 3, 2, out=out, stride=out // channels),
            shape=(channels, side, side),
            batch=128,
            input_gradient=True,
        )
        found = bench.run(workload.name, workload, [STANDARD, entry])
        pair = found[str(entry)], found[str(STANDARD)]
        verdict("direct / library, time", time_ratio(*pair, ("forward", "backward")), 0.8)


def shapes(bench: Bench) -> None:
    """Layers of many shapes: where does a chain of small convolutions win over folding?"""
    table = Table(title="\nlayers, step, ratios to folded", title_justify="left", box=None)
    for heading in ("convolution", "channels", "kernel", "input", "batch"):
        table.add_column(heading)
    for name in FACTORED[1:]:
        for value in ("time", "memory"):
            table.add_column(f"{name} {value}", justify="right")
    layers = [*_layers(bench.execution.device)]
    for conv, workload in tqdm(layers, desc="shapes", file=sys.stderr, leave=False):
        entries = [Candidate(conv=conv, execution=name) for name in FACTORED]
        measured = compare(workload, entries, bench.execution, rounds=bench.rounds)
        rows = make_rows(workload, measured, bench.roofline, bench.rounds)
        bench.found += [{"claim": "shapes", **asdict(row)} for row in rows]
        table.add_row(conv, *workload.name.split(), str(workload.batch), *_cells(measured))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _layers(device: str) -> Iterable[tuple[str, Workload]]:
    """Inputs of about equal size, so that only the shape differs."""
    numbers = 2**25 if device == "cuda" else 2**21
    planes = product((64, 256, 512), (3, 7), (8, 32), (2,))
    volumes = product((32, 128), (3,), (8, 16), (3,))
    for channels, kernel, side, dimensions in (*planes, *volumes):
        shape = (channels, *[side] * dimensions)
        for conv in ("channel-selection", "separable", "bottleneck2", "bottleneck"):
            yield (
                conv,
                Workload(
                    name=f"{channels} {kernel} {'x'.join([str(side)] * dimensions)}",
                    build=partial(_layer, channels, kernel, dimensions),
                    shape=shape,
                    batch=max(1, numbers // (channels * side**dimensions)),
                    input_gradient=True,
                ),
            )


def _layer(
    channels: int, kernel: int, dimensions: int, conv: str, *, out: int = 0, stride: int = 1
) -> nn.Module:
    where = {"dimensions": dimensions, "padding": kernel // 2, "stride": stride}
    return nn.Sequential(make_conv(conv, channels, out or channels, kernel, **where))


def _cells(measured: Sequence[Measurement]) -> list[Text]:
    """Time and memory of each but the first by the first; a win in time is bold."""
    folded, *others = measured
    cells = []
    for other in others:
        seconds = time_ratio(other, folded)
        win = "bold" if seconds < 1 else ""
        cells += [Text(f"{seconds:.2f}", win), Text(f"{memory_ratio(other, folded):.2f}")]
    return cells


CLAIMS = {
    "resnet14": resnet14,
    "vbnet": vbnet,
    "layers": layers,
    "shifted": shifted,
    "winograd": winograd,
    "direct": direct,
    "shapes": shapes,
}


def main() -> None:
    """Measure the claims that the command line names."""
    options = _parse()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    asked = {"precision": options.precision} if options.precision else {}
    execution = choose_execution(options.device, asked=asked)
    execution.prepare_process()
    roofline = measure_roofline(Clock(execution.device), execution.precision)
    machine = provenance()
    print(f"{execution.device}, {execution.precision}, {options.rounds} rounds", machine["machine"])
    print(f"torch {torch.__version__}, commit {machine['commit']}")
    print_roofline(roofline)
    bench = Bench(execution=execution, roofline=roofline, rounds=options.rounds, found=[])
    for name in options.claims or CLAIMS:
        CLAIMS[name](bench)
    if options.out:
        record = {"provenance": machine, "roofline": asdict(roofline), "rows": bench.found}
        write_json(options.out, record)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.convolutions",
        description=(__doc__ or "").split("\n\n")[1],
        epilog="claims: "
        + "; ".join(f"{name}: {(claim.__doc__ or '').strip()}" for name, claim in CLAIMS.items()),
    )
    parser.add_argument("claims", nargs="*", metavar="claim", help="by default all")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="by default as in training")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="a JSON file for every row and the machine")
    options = parser.parse_args()
    unknown = [name for name in options.claims if name not in CLAIMS]
    if unknown:
        parser.error(f"claim {unknown[0]!r} is unknown; choose from {', '.join(CLAIMS)}")
    return options


if __name__ == "__main__":
    main()
