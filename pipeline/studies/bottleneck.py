"""The study of bottleneck and separable convolutions: smaller, but are they faster and lighter?

It timed ten forward passes of a VBNet in training mode and single 3D layers, on one GPU. Here the
published chain is measured beside what this project makes of the same kernel, and by a training
step besides. Machines differ, so what is compared is the ratio to the standard convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import nn

from pipeline.models.registry import example_shape
from pipeline.models.vbnet import VBNet, group_norm
from pipeline.profiling.subjects import Candidate, Workload, candidates
from pipeline.profiling.summary import summarise
from pipeline.profiling.workloads import make_workload
from pipeline.studies.bottleneck_report import LAYER, NORMS, PASSES, SIZE, STEP, explain, plots
from pipeline.studies.cells import Bench, Cell, Outcome, Published, Study
from pipeline.studies.costs import Sides, measure_costs
from pipeline.training.execution import choose_execution

NAME = "bottleneck"
VBNET, LAYER3D = "vbnet", "conv-layer3d"
CHAINS = ("bottleneck2", "separable", "bottleneck2-norm", "separable-norm")
_PUBLISHED_BATCH = 6
_MAKERS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm3d, "group": group_norm}
_SMALL_VOLUME = (1, 16, 16, 32)
_SMALL_LAYER_INPUT = (16, 8, 8, 8)
# Parameters and "GFLOPs" as published, of the chains as they were published.
SIZES: dict[str, tuple[int, float]] = {
    f"{VBNET}/subkernel": (10_052_609, 191.78),
    f"{VBNET}/bottleneck": (1_145_061, 16.05),
    f"{LAYER3D}/subkernel": (13_920, 2.75),
    f"{LAYER3D}/bottleneck2-norm": (7_872, 1.56),
    f"{LAYER3D}/separable-norm": (1_088, 0.23),
}


def _size(bench: Bench, cell: Cell) -> Outcome:
    """Parameters, and multiply-accumulates of the published batch of six in billions.

    `gmacs` counts the chains as chains, `gmacs_folded` the one convolution that each stands for.
    """
    model, conv = cell.variant.split("/")
    summary = summarise(model, conv, _PUBLISHED_BATCH)
    return Outcome(
        figures={
            "parameters": summary.parameters,
            "gmacs": summary.macs / 1e9,
            "gmacs_folded": summary.macs_folded / 1e9,
        },
        setup={"input": summary.input},
    )


def _layer(bench: Bench, cell: Cell) -> Outcome:
    """One 3D layer, forward and backward, by every execution that the chain offers."""
    device = choose_execution().device
    workload = replace(
        make_workload(LAYER3D, bench.pick(smoke=1, cpu=6, gpu=6), device),
        shape=bench.pick(
            smoke=_SMALL_LAYER_INPUT, cpu=example_shape(LAYER3D), gpu=example_shape(LAYER3D)
        ),
    )
    return measure_costs(
        bench,
        cell,
        workload,
        candidates(workload, [cell.variant]),
        Sides(phases=("forward", "backward"), unit="ms"),
        bench.pick(smoke=1, cpu=7, gpu=15),
    )


def _step(bench: Bench, cell: Cell) -> Outcome:
    """A training step of VBNet: forward and loss, backward, optimiser."""
    workload = _vbnet(bench)
    entries = candidates(workload, [cell.variant])
    return measure_costs(bench, cell, workload, entries, Sides(unit="s"), _rounds(bench))


def _passes(bench: Bench, cell: Cell) -> Outcome:
    """Ten forward passes of VBNet in training mode, as published: no step, no backward."""
    workload = _vbnet(bench)
    entries = candidates(workload, [cell.variant])
    sides = Sides(protocol="published", unit="s")
    return measure_costs(bench, cell, workload, entries, sides, _rounds(bench))


def _norms(bench: Bench, cell: Cell) -> Outcome:
    """A training step of VBNet with batch norm and with group norm in 16 groups."""
    workload = replace(_vbnet(bench), build=build_vbnet)
    entries = [Candidate(conv=f"{cell.variant}/{norm}", execution="folded") for norm in _MAKERS]
    return measure_costs(bench, cell, workload, entries, Sides(unit="s"), _rounds(bench))


def _vbnet(bench: Bench) -> Workload:
    shape = example_shape(VBNET)
    return replace(
        make_workload(VBNET, bench.pick(smoke=1, cpu=1, gpu=6), choose_execution().device),
        shape=bench.pick(smoke=_SMALL_VOLUME, cpu=shape, gpu=shape),
    )


def build_vbnet(name: str) -> nn.Module:
    """A VBNet by "convolution/norm"; the norm is batch or group."""
    conv, norm = name.split("/")
    return VBNet(conv, 1, 1, norm=_MAKERS[norm])


def _rounds(bench: Bench) -> int:
    return bench.pick(smoke=1, cpu=3, gpu=7)


def _cells(scale: str, seed: int) -> Sequence[Cell]:
    """No cost depends on a seed, so all cells are of the first."""
    if seed != 0:
        return []
    parts: list[tuple[str, str, Callable[[Bench, Cell], Outcome]]] = []
    parts += [(SIZE, variant, _size) for variant in SIZES]
    chains = CHAINS if scale != "smoke" else ("separable", "separable-norm")
    parts += [(LAYER, chain, _layer) for chain in chains]
    parts += [(STEP, "bottleneck", _step), (PASSES, "bottleneck", _passes)]
    parts += [(NORMS, "bottleneck", _norms)]
    return [
        Cell(study=NAME, part=part, variant=variant, seed=seed, measure=measure)
        for part, variant, measure in parts
    ]


def _published() -> list[Published]:
    rows = [*_published_sizes(), *_published_layers(), *_published_passes()]
    return [
        Published(part=part, variant=variant, figure=figure, value=value, better=better)
        for part, variant, figure, value, better in rows
    ]


_Rows = list[tuple[str, str, str, float, str]]


def _published_sizes() -> _Rows:
    """Its "GFLOPs" are multiply-accumulates by another counter, so they give no verdict."""
    rows: _Rows = []
    for variant, (parameters, gmacs) in SIZES.items():
        rows.append((SIZE, variant, "parameters", parameters, "same"))
        rows.append((SIZE, variant, "gmacs", gmacs, "none"))
    return rows


def _published_layers() -> _Rows:
    """Forward, backward and inference time, training and inference memory: to the standard's."""
    names = ("forward", "backward", "inference", "peak", "inference_peak")
    standard = (0.3, 0.7, 0.3, 120.2, 72.2)
    chains = {
        "bottleneck2": (0.9, 1.6, 0.8, 168.1, 72.1),
        "separable": (0.9, 1.4, 0.8, 144.2, 72.2),
    }
    rows: _Rows = []
    for chain, values in chains.items():
        for name, value, other in zip(names, values, standard, strict=True):
            rows.append((LAYER, f"{chain}-norm", f"chain_{name}_ratio", value / other, "none"))
            rows.append((LAYER, chain, f"auto_{name}_ratio", value / other, "low"))
    return rows


def _published_passes() -> _Rows:
    """10.63 s and 3818 MB by the standard, 16.89 s and 4408 MB by the chain."""
    seconds, memory = 16.89 / 10.63, 4408 / 3818
    rows: _Rows = [
        (PASSES, "bottleneck", "standard_step_s", 10.63, "none"),
        (PASSES, "bottleneck", "standard_peak_MB", 3818, "none"),
        (PASSES, "bottleneck", "factored_step_ratio", seconds, "none"),
        (PASSES, "bottleneck", "factored_peak_ratio", memory, "none"),
    ]
    for execution in ("recomputed", "folded", "auto"):
        rows.append((PASSES, "bottleneck", f"{execution}_step_ratio", seconds, "low"))
        rows.append((PASSES, "bottleneck", f"{execution}_peak_ratio", memory, "low"))
    return rows


STUDY = Study(
    name=NAME,
    title="Bottleneck and separable convolutions: smaller, and slower?",
    cells=_cells,
    published=_published(),
    explain=explain,
    plots=plots,
)
