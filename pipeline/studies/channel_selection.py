"""The study of channel selection: a small residual net with rank-1 kernels, beside the standard.

Published on Kaggle's dog-vs-cat-vs-bird. It names no recipe; `published` is our reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from pipeline.models import make_model
from pipeline.studies.cells import Bench, Cell, Outcome, Published, Study
from pipeline.studies.channel_selection_report import explain, plots
from pipeline.studies.competing import competition_fold, score_of_fit, score_of_run
from pipeline.studies.datasets import load_benchmark
from pipeline.studies.epoch_timing import measure_epochs
from pipeline.studies.fitting import Fit, fit
from pipeline.studies.overfitting import NETWORKS, measure_overfitting
from pipeline.training.batches import FoldData
from pipeline.training.execution import choose_execution
from pipeline.training.recipes import Recipe, make_recipe

NAME = "channel-selection"
VARIANTS = ("subkernel", "channel-selection")
ELSEWHERE = ("fashion-mnist", "cifar10")
_SMOOTHED_EPOCHS = 5


def _published_recipe(bench: Bench, cell: Cell) -> Outcome:
    """One network, past the epoch where its losses part; submitted by itself, as was published."""
    recipe = _recipe("published", bench.pick(smoke=2, cpu=120, gpu=120))
    data = competition_fold(bench)
    found = fit(bench, cell, data, _build("resnet14", cell.variant, data, recipe), recipe)
    best = min(found.history, key=lambda epoch: epoch.valid_loss)
    return Outcome(
        figures={
            "parameters": found.parameters(),
            "min_valid_loss": best.valid_loss,
            "train_loss_there": best.train_loss,
            "parting_epoch": parting_epoch(found.curves()),
            **score_of_fit(bench, cell, found),
        },
        curves=found.curves(),
        setup=found.setup(),
    )


def _our_recipe(bench: Bench, cell: Cell) -> Outcome:
    """The whole pipeline with `quick`, for as long as the smaller network needs to learn."""
    epochs = bench.pick(smoke=2, cpu=40, gpu=80)
    return score_of_run(bench, cell.variant, "quick", f"epochs={epochs}", cell.seed)


def _resnet18(bench: Bench, cell: Cell) -> Outcome:
    """torchvision's ResNet-18 on one fold, and its size as published, with 1,000 classes."""
    epochs = bench.pick(smoke=1, cpu=12, gpu=80)
    # Muon is slow on so many weights where there are few images.
    recipe = _recipe(bench.pick(smoke="published", cpu="quick", gpu="quick"), epochs)
    data = competition_fold(bench)
    found = fit(bench, cell, data, _build("resnet18", cell.variant, data, recipe), recipe)
    with torch.device("meta"):
        full = make_model("resnet18", cell.variant, 3, 1000, 0.0)
    return _validated(found, parameters_1000=sum(each.numel() for each in full.parameters()))


def _elsewhere(bench: Bench, cell: Cell) -> Outcome:
    """The same network on another data set, by its own test images."""
    name, conv = cell.variant.split("/")
    epochs = bench.pick(smoke=1, cpu=6, gpu=40)
    recipe = _recipe("quick", epochs)
    source = bench.pick(smoke="digits", cpu=name, gpu=name)
    data = load_benchmark(source, choose_execution().device, mirror=source != "digits")
    found = fit(bench, cell, data, _build("resnet14", conv, data, recipe), recipe)
    return _validated(found)


def _recipe(name: str, epochs: int) -> Recipe:
    return make_recipe(name, {"epochs": str(epochs)})


def _build(model: str, conv: str, data: FoldData, recipe: Recipe) -> Callable[[], nn.Module]:
    channels = data.images.shape[-1]
    return partial(make_model, model, conv, channels, data.classes, recipe.dropout)


def _validated(found: Fit, **more: float) -> Outcome:
    last = found.history[-1]
    figures = {"parameters": found.parameters(), "valid_accuracy": last.valid_accuracy}
    return Outcome(
        figures={**figures, "valid_loss": last.valid_loss, **more},
        curves=found.curves(),
        setup=found.setup(),
    )


def parting_epoch(curves: dict[str, list[float]]) -> int:
    """The epoch from which on the smoothed train loss stays below the validation loss."""
    gaps = [
        valid - train
        for train, valid in zip(curves["train_loss"], curves["valid_loss"], strict=True)
    ]
    width = min(_SMOOTHED_EPOCHS, len(gaps))
    smoothed = [sum(gaps[at : at + width]) / width for at in range(len(gaps) - width + 1)]
    parting = len(smoothed)
    while parting > 0 and smoothed[parting - 1] > 0:
        parting -= 1
    return parting + width // 2


def _cells(scale: str, seed: int) -> Sequence[Cell]:
    """What one seed measures; times and sizes are of the first seed alone."""
    parts: list[tuple[str, str, Callable[[Bench, Cell], Outcome]]] = []
    parts += [("our-recipe", conv, _our_recipe) for conv in VARIANTS]
    parts += [("published-recipe", conv, _published_recipe) for conv in VARIANTS]
    parts += [("overfitting", network, measure_overfitting) for network in NETWORKS]
    parts += [
        ("elsewhere", f"{name}/{conv}", _elsewhere) for name in ELSEWHERE for conv in VARIANTS
    ]
    parts += [("resnet18", conv, _resnet18) for conv in ("subkernel", "channel-selection-bias")]
    if seed == 0:
        parts += [("epoch", how, measure_epochs) for how in ("eager", "compiled")]
    return [
        Cell(study=NAME, part=part, variant=variant, seed=seed, measure=measure)
        for part, variant, measure in parts
    ]


def _published() -> list[Published]:
    """The study's figures; seconds are of one Kaggle GPU, so they are compared by their ratio."""
    rows: list[tuple[str, str, str, float, str]] = [
        ("published-recipe", "subkernel", "parameters", 174_787, "same"),
        ("published-recipe", "channel-selection", "parameters", 27_363, "same"),
        ("published-recipe", "subkernel", "private", 0.8417, "high"),
        ("published-recipe", "channel-selection", "private", 0.8153, "high"),
        ("published-recipe", "subkernel", "min_valid_loss", 0.40116, "low"),
        ("published-recipe", "channel-selection", "min_valid_loss", 0.47613, "low"),
        ("published-recipe", "subkernel", "train_loss_there", 0.32, "none"),
        ("published-recipe", "channel-selection", "train_loss_there", 0.43, "none"),
        ("published-recipe", "subkernel", "parting_epoch", 80, "none"),
        ("published-recipe", "channel-selection", "parting_epoch", 80, "none"),
        ("our-recipe", "subkernel", "private", 0.8417, "high"),
        ("our-recipe", "channel-selection", "private", 0.8153, "high"),
        ("resnet18", "subkernel", "parameters_1000", 11_689_512, "same"),
        ("resnet18", "channel-selection-bias", "parameters_1000", 1_958_824, "same"),
        ("epoch", "eager", "channel-selection-linear_ratio", 8.5085 / 4.81286, "low"),
        ("epoch", "eager", "channel-selection-factored_ratio", 4.81174 / 4.81286, "low"),
        ("epoch", "eager", "subkernel_s", 4.81286, "none"),
    ]
    return [
        Published(part=part, variant=variant, figure=figure, value=value, better=better)
        for part, variant, figure, value, better in rows
    ]


STUDY = Study(
    name=NAME,
    title="Channel selection beside the standard convolution",
    cells=_cells,
    published=_published(),
    explain=explain,
    plots=plots,
)
