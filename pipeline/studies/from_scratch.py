"""The study that writes the convolution from scratch: on a photo, then in a network on MNIST."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from pipeline.models import make_model
from pipeline.profiling.subjects import CONTIGUOUS, Candidate, Workload
from pipeline.profiling.workloads import make_workload
from pipeline.studies.cells import Bench, Cell, Outcome, Published, Study
from pipeline.studies.costs import side_by_side
from pipeline.studies.datasets import load_benchmark
from pipeline.studies.fitting import fit
from pipeline.studies.from_scratch_report import MNIST, PHOTO, STEP, explain, plots
from pipeline.studies.photo import measure_photo
from pipeline.training.batches import steps_per_epoch
from pipeline.training.execution import choose_execution
from pipeline.training.recipes import Recipe
from pipeline.training.state import LossFunction, TrainingState

NAME = "from-scratch"
MODEL = "mnist-net"
_CONV = "subkernel"
_BATCH = 1000
EXECUTIONS = {"library": "folded", "shifted": "shifted"}
# One number format, no fusing and nothing replayed: what differs is the convolution alone.
_PLAIN = {"precision": "fp32", "compile": "off", "graphs": "off"}


def published_recipe(epochs: int) -> Recipe:
    """Adam 1e-3 at a constant rate, batch 1000, and nothing that the study does not name."""
    return Recipe(
        epochs=epochs,
        batch_size=_BATCH,
        optimizer="adam",
        learning_rate=1e-3,
        momentum=0.9,
        weight_decay=0.0,
        schedule="constant",
        warmup=0.0,
        label_smoothing=0.0,
        dropout=0.2,
        max_shift=0.0,
    )


def _training(bench: Bench, cell: Cell) -> Outcome:
    """Five epochs with one way to convolve; a seed gives both ways the same weights and batches.

    `step_loss` is the loss of every batch as it was trained on; where the training was stopped
    and taken up again, of those behind the last stop.
    """
    recipe = published_recipe(bench.pick(smoke=2, cpu=5, gpu=5))
    data = load_benchmark(
        bench.pick(smoke="digits", cpu="mnist", gpu="mnist"), choose_execution().device
    )
    build = partial(make_model, MODEL, _CONV, data.images.shape[-1], data.classes, recipe.dropout)
    log = StepLog()
    executions = EXECUTIONS[cell.variant]
    found = fit(
        bench, cell, data, build, recipe, executions=executions, asked=_PLAIN, watch=log.watch
    )
    steps = steps_per_epoch(data, recipe.batch_for(len(data.train)))
    last, seconds = found.history[-1], [epoch.seconds for epoch in found.history]
    return Outcome(
        figures={
            "parameters": found.parameters(),
            "train_loss": last.train_loss,
            "test_loss": last.valid_loss,
            "test_accuracy": last.valid_accuracy,
            "epoch_s": statistics.median(seconds),
            "total_s": sum(seconds),
        },
        curves={**found.curves(), "step_loss": log.losses()},
        setup={**found.setup(), "steps": recipe.epochs * steps},
    )


class StepLog:
    """Keeps the loss of every step on the device, so that nothing waits for it."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []

    def watch(self, state: TrainingState) -> None:
        """Note every loss that `state` computes from now on."""
        state.loss = self._noting(state.loss)

    def _noting(self, compute: LossFunction) -> LossFunction:
        def loss(images: Tensor, labels: Tensor) -> Tensor:
            value = compute(images, labels)
            self._losses.append(value.detach())
            return value

        return loss

    def losses(self) -> list[float]:
        """One per step, in order."""
        return [value.item() for value in self._losses]


def _steps(bench: Bench, cell: Cell) -> Outcome:
    """A training step in interleaved rounds, beside the library in both memory formats.

    `seconds_ratio` is to the library in whichever format is faster.
    """
    rounds = bench.pick(smoke=1, cpu=9, gpu=25)
    execution = choose_execution(asked=_PLAIN)
    workload = _workload(bench, execution.device)
    library = [
        Candidate(conv=_CONV, execution="folded"),
        Candidate(conv=_CONV, execution="folded", memory_format=CONTIGUOUS),
    ]
    shifted = Candidate(conv=_CONV, execution="shifted")
    entries = [*library, shifted]
    measured = side_by_side(bench, cell, workload, entries, execution, rounds=rounds)
    *of_library, own = [each.step_seconds() for each in measured]
    fastest = min(of_library, key=statistics.median)
    ratios = [mine / other for mine, other in zip(own, fastest, strict=True)]
    return Outcome(
        figures={
            "library_channels_last_ms": 1000 * statistics.median(of_library[0]),
            "library_contiguous_ms": 1000 * statistics.median(of_library[1]),
            "shifted_ms": 1000 * statistics.median(own),
            "seconds_ratio": statistics.median(ratios),
        },
        curves={"ratios": ratios},
        setup={"batch": workload.batch, **{n: v for n, v, _ in execution.table()}},
        n=rounds,
        spread={"seconds_ratio": (min(ratios), max(ratios))},
    )


def _workload(bench: Bench, device: str) -> Workload:
    return make_workload(MODEL, bench.pick(smoke=32, cpu=_BATCH, gpu=_BATCH), device)


def _cells(scale: str, seed: int) -> Sequence[Cell]:
    """Times are of the first seed alone."""
    parts: list[tuple[str, str, Callable[[Bench, Cell], Outcome]]] = []
    parts += [(MNIST, name, _training) for name in EXECUTIONS]
    if seed == 0:
        parts += [(PHOTO, "four-filters", measure_photo), (STEP, "shifted", _steps)]
    return [
        Cell(study=NAME, part=part, variant=variant, seed=seed, measure=measure)
        for part, variant, measure in parts
    ]


def _published() -> list[Published]:
    """Of the ranges 0.4 to 1.2 ms and 0.77 to 0.84 ms the lower end, the harder one."""
    rows: list[tuple[str, str, str, float, str]] = [
        (PHOTO, "four-filters", "loops_scaled_s", 1230, "none"),
        (PHOTO, "four-filters", "library_ms", 0.4, "none"),
        (PHOTO, "four-filters", "shifted_ms", 0.77, "none"),
        (PHOTO, "four-filters", "loops_to_library", 2_400_000, "none"),
        (STEP, "shifted", "seconds_ratio", 2.0, "low"),
    ]
    return [
        Published(part=part, variant=variant, figure=figure, value=value, better=better)
        for part, variant, figure, value, better in rows
    ]


STUDY = Study(
    name=NAME,
    title="The convolution from scratch",
    cells=_cells,
    published=_published(),
    explain=explain,
    plots=plots,
)
