"""Everything that changes while a fold trains, so that it can be saved and taken up again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.errors import DataError
from pipeline.models.native_norm import use_native_norms
from pipeline.models.norm import use_sum_norms
from pipeline.models.pretrained import classifier_parameters
from pipeline.training import group
from pipeline.training.averaging import Average
from pipeline.training.batches import FoldData, steps_per_epoch
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.compilation import compiled
from pipeline.training.execution import Execution
from pipeline.training.keeping import BestEpoch
from pipeline.training.losses import loss_of_labels
from pipeline.training.optimizers import make_optimizer
from pipeline.training.recipes import Recipe
from pipeline.training.recording import Recording
from pipeline.training.schedules import make_schedule

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochMetrics:
    """What one epoch measured; losses are means per image.

    Validation sees plain images of `side` pixels, the size that the epoch trained on. `valid_score`
    is by the competition's metric, where it chooses the epoch that is kept.
    `learning_rate` is the classifier's, the highest. `peak_memory` is in bytes, see
    `pipeline.training.memory`; 0 where it was not measured.
    """

    epoch: int
    side: int
    train_loss: float
    valid_loss: float
    valid_accuracy: float
    learning_rate: float
    seconds: float
    valid_score: float | None = None
    peak_memory: int = 0


@dataclass(kw_only=True, slots=True)
class TrainingState:
    """A fold in training; the random streams are derived from its seed, except the device's own.

    Attributes:
        loss: the mean loss of uint8 or float images [N, H, W, C] and labels [N], or class
            probabilities [N, classes].
        batch: images per step.
        micro_batch: images that pass through the network at once; memory sets it.
        step: steps done in the epoch that is under way.
        loss_sum: of those steps, on the device.
        seconds: that they took.
        identity: what a checkpoint must have been made for.
        make_loss: makes `loss` anew, for the parameters that learn now.
        is_frozen: whether the classifier alone learns.
        average: of the model's weights, where the recipe wants it.
        best: the epoch to keep, where the recipe does not keep the last.
        clip: the largest norm of a step's gradients; 0 for any.
        recording: takes the steps where they are recorded as a CUDA graph.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    loss: LossFunction
    batch: int
    micro_batch: int
    loss_sum: Tensor
    step: int = 0
    seconds: float = 0.0
    history: list[EpochMetrics] = field(default_factory=list)
    identity: dict[str, Any] = field(default_factory=dict)
    make_loss: Callable[[], LossFunction]
    is_frozen: bool = False
    average: Average | None = None
    best: BestEpoch | None = None
    clip: float = 0.0
    recording: Recording | None = None

    @property
    def validated(self) -> nn.Module:
        """The network that validation sees: the averaged one, or the one in training."""
        return self.average.model if self.average else self.model

    def trained(self) -> nn.Module:
        """The network that training ends with, at the epoch that is kept."""
        if self.best:
            self.validated.load_state_dict(self.best.weights)
        return self.validated

    def freeze(self, frozen: bool) -> None:
        """Let the classifier alone learn, or everything; the epoch decides, no checkpoint."""
        if frozen == self.is_frozen:
            return
        self.is_frozen = frozen
        of_classifier = classifier_parameters(self.model)
        for of_rate in self.optimizer.param_groups:
            for parameter in of_rate["params"]:
                parameter.requires_grad_(not frozen or parameter in of_classifier)
        self.loss = self.make_loss()  # processes that share a batch wait for every gradient

    def to_training(self) -> None:
        """The model in training mode; what is frozen moves no statistics either."""
        self.model.train()
        if self.is_frozen:
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def _parts(self) -> list[Any]:
        return [self.model, self.optimizer, self.schedule, self.scaler]

    def _choices(self) -> dict[str, Any]:
        """The parts that some recipes have, by the field that asks for them."""
        parts = {"ema": self.average, "keep": self.best}
        return {name: part for name, part in parts.items() if part is not None}

    def save(self, path: Path) -> None:
        """Write the state as it is between two steps."""
        device = self.loss_sum.device
        saved = {
            "identity": self.identity,
            "parts": [part.state_dict() for part in self._parts()],
            "choices": {name: part.state_dict() for name, part in self._choices().items()},
            "history": [asdict(metrics) for metrics in self.history],
            "step": self.step,
            "loss_sum": self.loss_sum,
            "seconds": self.seconds,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        save_checkpoint(path, saved)

    def resume(self, path: Path) -> None:
        """Go on from the state in `path`.

        Raises:
            DataError: the file is damaged, or was written for another run, fold, version, or
                choice of ema or keep.
        """
        device = self.loss_sum.device
        saved = load_checkpoint(path, device)
        if saved.get("identity") != self.identity:
            raise DataError(
                f"{path} was made for {saved.get('identity')}, not {self.identity}; delete it and "
                "rerun: the fold starts again"
            )
        chosen, choices = saved.get("choices", {}), self._choices()
        if chosen.keys() != choices.keys():
            raise DataError(
                f"{path} was saved with another ema or keep ({' and '.join(chosen) or 'neither'} "
                f"there, {' and '.join(choices) or 'neither'} in the recipe); delete it and rerun: "
                "the fold starts again"
            )
        try:
            for part, values in zip(self._parts(), saved["parts"], strict=True):
                part.load_state_dict(values)
            for name, part in choices.items():
                part.load_state_dict(chosen[name])
            self.history = [EpochMetrics(**metrics) for metrics in saved["history"]]
            self.step, self.seconds = int(saved["step"]), float(saved["seconds"])
            self.loss_sum = saved["loss_sum"]
            torch.set_rng_state(saved["random"].cpu())
            if saved["random_cuda"] is not None:
                torch.cuda.set_rng_state(saved["random_cuda"].cpu(), device)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as err:
            raise DataError(
                f"{path} is of another network; delete it and rerun: the fold starts again"
            ) from err


def start_training(
    model: nn.Module,
    data: FoldData,
    recipe: Recipe,
    execution: Execution,
    identity: dict[str, Any] | None = None,
    metric: str = "accuracy",
) -> TrainingState:
    """The state before the first step; `metric` chooses the epoch where the recipe keeps the best.

    Raises:
        ConfigError: the batch cannot be shared by the processes that train the fold together.
    """
    batch = recipe.batch_for(len(data.train))
    group.check_batch(batch)
    model = group.with_shared_norms(model)
    if execution.norms == "native":
        use_native_norms(model)
    elif execution.compile and execution.device == "cpu":
        use_sum_norms(model)
    optimizer = make_optimizer(
        recipe.optimizer,
        model,
        learning_rate=recipe.learning_rate * batch / recipe.batch_size,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        classifier_apart=recipe.frozen > 0,
        layer_decay=recipe.layer_decay,
    )
    make_loss = partial(_loss_function, model, recipe, execution, data)
    steps = recipe.epochs * steps_per_epoch(data, batch)
    return TrainingState(
        model=model,
        optimizer=optimizer,
        schedule=make_schedule(recipe.schedule, optimizer, steps, recipe.warmup),
        scaler=execution.scaler(),
        loss=make_loss(),
        batch=batch,
        micro_batch=min(batch, execution.micro_batch or batch),
        loss_sum=torch.zeros((), device=data.labels.device),
        identity=identity or {},
        make_loss=make_loss,
        average=Average(model, recipe.ema) if recipe.ema else None,
        best=BestEpoch(metric) if recipe.keep == "best" else None,
        clip=recipe.clip,
        recording=Recording() if execution.graphs and group.size() == 1 else None,
    )


def _loss_function(
    model: nn.Module, recipe: Recipe, execution: Execution, data: FoldData
) -> LossFunction:
    network = group.with_shared_gradients(model)
    compare = loss_of_labels(recipe, data)

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        with execution.autocast():
            logits = network(images)
        return compare(logits.float(), labels)

    return compiled(loss) if execution.compile else loss
