"""The study of accelerated optimisation on Fashion-MNIST: eight trainings, and a network's size.

The document names no initialisation; Kaiming's normal one is our reading (He et al. 2015,
arXiv:1502.01852). Its inputs are normalised by the first batch, ours by all training images.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from torch import nn

from pipeline.models import make_model
from pipeline.profiling.summary import Layer, summarise
from pipeline.studies.cells import Bench, Cell, Outcome, Published, Study
from pipeline.studies.datasets import load_benchmark
from pipeline.studies.fitting import Fit, fit
from pipeline.studies.nntrain_report import SUMMARY, TRAINING, explain, plots
from pipeline.studies.nntrain_rows import (
    PUBLISHED_BLOCKS,
    PUBLISHED_MMACS,
    PUBLISHED_PARAMETERS,
    RESNET,
    ROWS,
)
from pipeline.training.batches import FoldData
from pipeline.training.execution import choose_execution

NAME = "nntrain"
_CONV = "subkernel"
_SMOKE_EPOCHS = 1


def _training(bench: Bench, cell: Cell) -> Outcome:
    """One row of the table.

    `train_loss` is the running mean of the last epoch, as the network changed and saw images
    flipped, cropped and blended, with smoothed labels, where the row does so; `train_accuracy` is
    of the training images as they are, in evaluation mode, after the last step. Flips and crops
    are drawn for every image; the study draws once per batch. A network that trained on them is
    also evaluated with flipped and shifted views, averaged: `eval_accuracy_views`.
    """
    row = ROWS[cell.variant]
    recipe = row.recipe(
        bench.pick(smoke=_SMOKE_EPOCHS, cpu=row.training.epochs, gpu=row.training.epochs)
    )
    source = bench.pick(smoke="digits", cpu="fashion-mnist", gpu="fashion-mnist")
    data = load_benchmark(source, choose_execution().device, mirror=row.augmented)
    found = fit(bench, cell, data, lambda: _network(row.model, data), recipe, executions="folded")
    last = found.history[-1]
    _, train_accuracy = found.on_training_images()
    return Outcome(
        figures={
            "parameters": found.parameters(),
            "train_loss": last.train_loss,
            "train_accuracy": train_accuracy,
            "eval_loss": last.valid_loss,
            "eval_accuracy": last.valid_accuracy,
            "epoch_s": statistics.median(epoch.seconds for epoch in found.history),
            **({"eval_accuracy_views": _with_views(found)} if row.augmented else {}),
        },
        curves=found.curves(),
        setup={**found.setup(), "model": row.model},
    )


def _with_views(found: Fit) -> float:
    data = found.data
    predicted = found.probabilities(data.images, data.valid).argmax(1)
    return float((predicted == data.labels[data.valid].cpu()).double().mean())


def _network(model: str, data: FoldData) -> nn.Module:
    network = make_model(model, _CONV, data.images.shape[-1], data.classes, 0.0)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    return network


def _summary(bench: Bench, cell: Cell) -> Outcome:
    """The residual network's parameters and MACs, by the study's formula and by our count."""
    summary = summarise(RESNET, _CONV)
    figures: dict[str, float] = {"parameters": summary.parameters}
    by_formula, counted = [], []
    for number in range(len(PUBLISHED_BLOCKS)):
        layers = [each for each in summary.layers if each.name.startswith(f"blocks.{number}.")]
        by_formula.append(authors_macs(layers) / 1e6)
        counted.append(sum(layer.macs for layer in layers) / 1e6)
        name = f"block{number + 1}"
        figures[f"{name}_parameters"] = sum(layer.parameters for layer in layers)
        figures[f"{name}_mmacs_by_formula"] = round(by_formula[-1], 1)
        figures[f"{name}_mmacs"] = round(counted[-1], 2)
    figures["mmacs_by_formula"] = round(sum(by_formula), 1)
    figures["mmacs"] = round(sum(counted), 2)
    return Outcome(figures=figures, setup={"input": summary.input})


def authors_macs(layers: Sequence[Layer]) -> int:
    """Multiply-accumulates of a residual block of one image by the study's formula.

    9·in·H·W·out at the input's size, 9·out·H·W·out at the output's and, where the block has a
    stride, in·H·W·out at the output's. The shortcut's product is in truth taken ahead of the
    pooling, at the input's size, and a block without a stride has one too.

    Args:
        layers: of one block, for a batch of one; named as in `ResNetNNTrain`.
    """
    by_name = {layer.name.rpartition(".")[2]: layer for layer in layers}
    _, inputs, *before = by_name["conv1"].input
    _, outputs, *after = by_name["conv2"].output
    large, small = before[0] * before[1], after[0] * after[1]
    shortcut = inputs * small * outputs if large != small else 0
    return 9 * inputs * large * outputs + 9 * outputs * small * outputs + shortcut


def _cells(scale: str, seed: int) -> Sequence[Cell]:
    """Every row; the network's size is of no seed, so it comes with the first."""
    cells = [
        Cell(study=NAME, part=TRAINING, variant=name, seed=seed, measure=_training) for name in ROWS
    ]
    if seed == 0:
        cells.append(Cell(study=NAME, part=SUMMARY, variant=RESNET, seed=seed, measure=_summary))
    return cells


def _published() -> list[Published]:
    rows: list[tuple[str, str, str, float, str]] = []
    for name, row in ROWS.items():
        if row.published:
            train_loss, train_accuracy, eval_loss, eval_accuracy = row.published
            rows += [
                (TRAINING, name, "train_loss", train_loss, "none"),
                (TRAINING, name, "train_accuracy", train_accuracy, "none"),
                (TRAINING, name, "eval_loss", eval_loss, "low"),
                (TRAINING, name, "eval_accuracy", eval_accuracy, "high"),
            ]
    rows += [
        (SUMMARY, RESNET, "parameters", PUBLISHED_PARAMETERS, "same"),
        (SUMMARY, RESNET, "mmacs_by_formula", PUBLISHED_MMACS, "same"),
    ]
    for number, (parameters, millions) in enumerate(PUBLISHED_BLOCKS, 1):
        rows += [
            (SUMMARY, RESNET, f"block{number}_parameters", parameters, "same"),
            (SUMMARY, RESNET, f"block{number}_mmacs_by_formula", millions, "same"),
        ]
    return [
        Published(part=part, variant=variant, figure=figure, value=value, better=better)
        for part, variant, figure, value, better in rows
    ]


STUDY = Study(
    name=NAME,
    title="nntrain: accelerated optimisation on Fashion-MNIST",
    cells=_cells,
    published=_published(),
    explain=explain,
    plots=plots,
)
