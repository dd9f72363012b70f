"""One network trained by the engine outside of any run, going on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.convs import KernelConv, choose_executions, set_execution
from pipeline.models.classifier import ImageClassifier, channel_statistics
from pipeline.stages.train import ENGINE_VERSION
from pipeline.studies.cells import Bench, Cell
from pipeline.training.augment import shrink
from pipeline.training.batches import FoldData
from pipeline.training.execution import Execution, choose_execution, for_network, with_convs
from pipeline.training.loop import evaluate, train_fold
from pipeline.training.predict import predict_probabilities
from pipeline.training.recipes import Recipe
from pipeline.training.seeds import derive_seed
from pipeline.training.start import start_training
from pipeline.training.state import EpochMetrics, TrainingState

AUTO = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """A trained network, its epochs, and how it was computed."""

    model: nn.Module
    data: FoldData
    history: list[EpochMetrics]
    recipe: Recipe
    execution: Execution

    def curves(self) -> dict[str, list[float]]:
        """By epoch: train loss (as augmented), validation loss and accuracy, seconds."""
        return {
            "train_loss": [epoch.train_loss for epoch in self.history],
            "valid_loss": [epoch.valid_loss for epoch in self.history],
            "valid_accuracy": [epoch.valid_accuracy for epoch in self.history],
            "seconds": [round(epoch.seconds, 3) for epoch in self.history],
        }

    def setup(self) -> dict[str, Any]:
        """What was trained, and how."""
        return {
            "recipe": asdict(self.recipe),
            "images": {"train": len(self.data.train), "valid": len(self.data.valid)},
            "execution": {name: value for name, value, _ in self.execution.table()},
        }

    def parameters(self) -> int:
        """Numbers that learn."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def on_training_images(self) -> tuple[float, float]:
        """Mean loss and accuracy on the training images as they are, in evaluation mode."""
        data = self.data
        swapped = FoldData(
            images=data.images,
            labels=data.labels,
            train=data.valid,
            valid=data.train,
            classes=data.classes,
            mirror=data.mirror,
        )
        loss, accuracy, _ = evaluate(self.model, swapped, self.execution, data.side)
        return loss, accuracy

    def probabilities(self, images: Tensor, index: Tensor) -> Tensor:
        """Of the images `index`, with test-time views: [N, classes]."""
        return predict_probabilities(
            self.model,
            images,
            index,
            self.data.mirror,
            self.execution,
            max_shift=self.recipe.shift_for(self.data.side),
        )


def fit(
    bench: Bench,
    cell: Cell,
    data: FoldData,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    *,
    executions: str = AUTO,
    asked: Mapping[str, str] | None = None,
    watch: Callable[[TrainingState], None] | None = None,
) -> Fit:
    """Train what `build` makes on the training rows of `data`; stopped, it goes on.

    Args:
        executions: of every convolution of the network; "auto" times what each offers.
        asked: decided in advance: precision, compile (on, off), norms, micro_batch, threads.
        watch: is given the state ahead of the first step that is still to do.

    Raises:
        BudgetError: the deadline came first; the state is kept for the next time.
        ConfigError: a convolution of the network does not offer the execution.
    """
    seed = derive_seed(cell.seed, cell.study)
    torch.manual_seed(derive_seed(seed, "initialise"))
    statistics = channel_statistics(data.images, data.train)
    model = ImageClassifier(build(), *statistics).to(data.labels.device)
    execution = _execution(model, data, recipe, executions, asked or {})
    path = bench.state_of(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    identity = {"cell": cell.name, "recipe": asdict(recipe), "engine_version": ENGINE_VERSION}
    state = start_training(model, data, recipe, execution, identity)
    if path.exists():
        state.resume(path)
    if watch:
        watch(state)
    done = len(state.history)
    with tqdm(total=recipe.epochs, initial=done, desc=cell.name, unit="epoch") as bar:

        def save(state: TrainingState) -> None:
            state.save(path)
            bar.set_postfix(train=state.history[-1].train_loss if state.history else None)
            bar.update(len(state.history) - bar.n)

        train_fold(state, data, recipe, execution, seed, save, bench.deadline)
    return Fit(
        model=state.model, data=data, history=state.history, recipe=recipe, execution=execution
    )


def _execution(
    model: nn.Module, data: FoldData, recipe: Recipe, executions: str, asked: Mapping[str, str]
) -> Execution:
    """As a run decides it: the device's formats, then each convolution's fastest execution."""
    height, width = data.images.shape[1:3]
    pixels = recipe.pixels(len(data.train), height, width)
    execution = choose_execution(data.labels.device.type, pixels=pixels, asked=asked)
    smallest = shrink(data.images[:2], recipe.side_for(0, data.side))
    execution = for_network(execution, model, smallest, asked)
    execution.prepare_process()
    if executions != AUTO:
        set_execution(model, executions)
        convs = [path for path, part in model.named_modules() if isinstance(part, KernelConv)]
        return with_convs(execution, dict.fromkeys(convs, executions), asked=True)
    batch = data.images[: recipe.batch_for(len(data.train))]
    with execution.autocast():
        return with_convs(execution, choose_executions(model, batch))
