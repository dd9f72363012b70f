"""Can channel selection learn 12,000 images by heart, and is it the kernel or the size?

Four networks train without any regularisation: the two of the study and, so that the kernel and
the number of parameters can be told apart, each with the other's number of parameters.
"""

from __future__ import annotations

from functools import partial

from pipeline.models.resnet14 import WIDTHS, ResNet14
from pipeline.studies.cells import Bench, Cell, Outcome
from pipeline.studies.competing import competition_fold
from pipeline.studies.fitting import fit
from pipeline.training.recipes import Recipe

# With 3 classes: 174,787, 27,363, 27,438 and 174,772 parameters.
NETWORKS: dict[str, tuple[str, tuple[int, int, int]]] = {
    "subkernel": ("subkernel", WIDTHS),
    "channel-selection": ("channel-selection", WIDTHS),
    "subkernel-narrow": ("subkernel", (6, 13, 25)),
    "channel-selection-wide": ("channel-selection", (44, 88, 173)),
}


def unregularised(epochs: int) -> Recipe:
    """No augmentation, weight decay, dropout or label smoothing: what is left is the network."""
    return Recipe(
        epochs=epochs,
        batch_size=128,
        optimizer="muon",
        learning_rate=0.012,
        weight_decay=0.0,
        label_smoothing=0.0,
        dropout=0.0,
        max_shift=0.0,
    )


def measure_overfitting(bench: Bench, cell: Cell) -> Outcome:
    """Train loss and accuracy at the end, on the training images themselves."""
    conv, widths = NETWORKS[cell.variant]
    data = competition_fold(bench, mirror=False)
    channels = data.images.shape[-1]
    build = partial(ResNet14, conv, channels, data.classes, 0.0, widths)
    found = fit(bench, cell, data, build, unregularised(bench.pick(smoke=1, cpu=40, gpu=100)))
    loss, accuracy = found.on_training_images()
    return Outcome(
        figures={
            "parameters": found.parameters(),
            "final_train_loss": loss,
            "final_train_accuracy": accuracy,
            "min_valid_loss": min(epoch.valid_loss for epoch in found.history),
            "valid_accuracy": found.history[-1].valid_accuracy,
        },
        curves=found.curves(),
        setup=found.setup(),
    )
