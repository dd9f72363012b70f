"""What `bench` times: the training engine on a competition's images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from pipeline.convs import KernelConv, apply_executions, choose_executions, set_execution
from pipeline.models import ImageClassifier, make_model
from pipeline.models.classifier import channel_statistics
from pipeline.profiling.live_set import live_set, resident_bytes
from pipeline.stages.settings import Settings, changes
from pipeline.training.augment import shrink
from pipeline.training.batches import FoldData, epoch_batches
from pipeline.training.deadline import Deadline
from pipeline.training.execution import Execution, for_network, with_convs
from pipeline.training.folds import assign_folds
from pipeline.training.loop import train_epoch, train_fold
from pipeline.training.recipes import Recipe, make_recipe
from pipeline.training.start import start_training
from pipeline.training.state import TrainingState
from pipeline.training.step import plain_step, take_step


@dataclass(slots=True)
class Engine:
    """The training engine, epoch by epoch at full image size."""

    state: TrainingState
    data: FoldData
    recipe: Recipe

    def epoch(self) -> float:
        """Seconds of one pass over all images, without validation."""
        start = time.perf_counter()
        self.state.step = self.state.schedule.last_epoch = 0  # it has an end, rounds go on
        train_epoch(self.state, self.data, self.recipe, self.data.side, 0, Deadline())
        self.state.loss_sum.item()  # the device has finished when its result is here
        return time.perf_counter() - start

    def peak_bytes(self) -> int:
        """Bytes that tensors hold at the fullest moment of a training step, images apart."""
        state = self.state
        images, labels = self._batch()

        def step() -> None:
            plain_step(state, images, labels)
            state.optimizer.zero_grad(set_to_none=True)  # gradients are the step's, not resident

        step()
        resident = resident_bytes(state.model, state.optimizer, images, labels)
        return resident + live_set(step, images.device.type).peak

    def kernels_and_launches(self) -> tuple[int, int] | None:
        """Kernels that a training step runs on a GPU, and what the host launches for it.

        None on a CPU. A recorded step is one launch, and a few for what it copies in.
        """
        images, labels = self._batch()
        if images.device.type != "cuda":
            return None
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            take_step(self.state, images, labels)
            torch.cuda.synchronize()
        kernels = [event for event in seen.events() if event.device_type == DeviceType.CUDA]
        launches = [event for event in seen.events() if "Launch" in event.name]
        return len(kernels), len(launches)

    def _batch(self) -> tuple[Tensor, Tensor]:
        return next(epoch_batches(self.data, self.recipe, self.state.batch, seed=0))


@dataclass(frozen=True, slots=True)
class Subject:
    """A network in training on a competition's images."""

    settings: Settings
    execution: Execution
    images: Tensor
    labels: Tensor
    classes: int
    mirror: bool

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return make_recipe(self.settings.recipe, changes(self.settings)[0])

    def for_network(self, asked: Mapping[str, str]) -> Subject:
        """The subject with the number format and the convolutions' executions that a run takes."""
        smallest = shrink(self.images[:2], self.recipe.side_for(0, min(self.images.shape[1:3])))
        model = ImageClassifier(self.network(), *channel_statistics(self.images))
        execution = for_network(self.execution, model, smallest, asked)
        execution.prepare_process()
        set_execution(model, self.settings.execution)
        batch = self.images[: self.recipe.batch_for(len(self.images))]
        with execution.autocast():
            choose_executions(model.to(execution.device), batch.to(execution.device))
        parts = [part for part in model.named_modules() if isinstance(part[1], KernelConv)]
        convs = {path: conv.execution for path, conv in parts}
        by_hand = self.settings.execution != "auto"
        return replace(self, execution=with_convs(execution, convs, asked=by_hand))

    def start(self, times: int = 1) -> Engine:
        """The engine at its first step, on the images repeated so often."""
        rows = torch.arange(times * len(self.images))
        return self._start(
            self.images.repeat(times, 1, 1, 1), self.labels.repeat(times), rows, rows[:0]
        )

    def seconds_to(self, targets: Sequence[float]) -> dict[str, float | None]:
        """Seconds until a fold's validation accuracy reaches each target; None if it does not.

        The fold is the first of five; validation sees full-size images as they are, and both it
        and compiling for other image sizes count.
        """
        fold = torch.as_tensor(assign_folds(self.labels.numpy(), None, 5, self.settings.fold_seed))
        engine = self._start(
            self.images, self.labels, torch.nonzero(fold != 0)[:, 0], torch.nonzero(fold == 0)[:, 0]
        )
        start, reached = time.perf_counter(), list[tuple[float, float]]()

        def note(state: TrainingState) -> None:
            last = state.history[-1]
            if last.side == engine.data.side:
                reached.append((last.valid_accuracy, round(time.perf_counter() - start, 1)))

        seed = self.settings.seed
        train_fold(engine.state, engine.data, engine.recipe, self.execution, seed, note, Deadline())
        return {
            str(target): next((at for accuracy, at in reached if accuracy >= target), None)
            for target in targets
        }

    def network(self) -> torch.nn.Module:
        """A fresh network."""
        channels = self.images.shape[-1]
        model, conv = self.settings.model, self.settings.conv
        return make_model(model, conv, channels, self.classes, self.recipe.dropout)

    def _start(self, images: Tensor, labels: Tensor, train: Tensor, valid: Tensor) -> Engine:
        device = self.execution.device
        data = FoldData(
            images=images.to(device),
            labels=labels.to(device),
            train=train.to(device),
            valid=valid.to(device),
            classes=self.classes,
            mirror=self.mirror,
        )
        model = ImageClassifier(self.network(), *channel_statistics(self.images))
        apply_executions(model, dict(self.execution.convs))
        state = start_training(model.to(device), data, self.recipe, self.execution)
        return Engine(state, data, self.recipe)
