"""Everything that changes while a fold trains, so that it can be saved and taken up again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.errors import DataError
from pipeline.models.pretrained import classifier_parameters
from pipeline.training import group
from pipeline.training.averaging import Average
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.keeping import BestEpoch

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


class StepTaker(Protocol):
    """Takes training steps in a way of its own."""

    def step(self, state: TrainingState, images: Tensor, labels: Tensor) -> Tensor:
        """As `pipeline.training.step.take_step`."""


@dataclass(kw_only=True, slots=True)
class TrainingState:
    """A fold in training; the random streams are derived from its seed, except the device's own.

    Attributes:
        loss: the mean loss of uint8 or float images [N, H, W, C] and labels [N], or class
            probabilities [N, classes].
        weigh: how much labels count together in that mean.
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
    weigh: Callable[[Tensor], Tensor | int] = len
    is_frozen: bool = False
    average: Average | None = None
    best: BestEpoch | None = None
    clip: float = 0.0
    recording: StepTaker | None = None

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
        learning = {p for p in self.model.parameters() if p.requires_grad}
        for module in self.model.modules() if self.is_frozen else ():
            if isinstance(module, _BatchNorm) and learning.isdisjoint(module.parameters()):
                module.eval()

    def _parts(self) -> list[Any]:
        return [self.model, self.optimizer, self.schedule, self.scaler]

    def _choices(self) -> dict[str, Any]:
        """The parts that some recipes have, by the field that asks for them."""
        parts = {"ema": self.average, "keep": self.best}
        return {name: part for name, part in parts.items() if part is not None}

    def gathered(self) -> dict[str, Any]:
        """What differs between the processes that train the fold; all of them call this at once.

        Random states are by rank; of the losses it is the mean, which any number can go on with.
        """
        device = self.loss_sum.device
        on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return {
            "random": group.gathered(torch.get_rng_state()),
            "random_cuda": None if on_device is None else group.gathered(on_device),
            "loss_sum": group.total(self.loss_sum) / group.size(),
        }

    def save(self, path: Path) -> None:
        """Write the state as it is between two steps, while helpers call `gathered`."""
        saved = {
            "identity": self.identity,
            "parts": [part.state_dict() for part in self._parts()],
            "choices": {name: part.state_dict() for name, part in self._choices().items()},
            "history": [asdict(metrics) for metrics in self.history],
            "step": self.step,
            "seconds": self.seconds,
            "micro_batch": self.micro_batch,
            **self.gathered(),
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
                if values:  # a scaler that had nothing to do has none
                    part.load_state_dict(values)
            for name, part in choices.items():
                part.load_state_dict(chosen[name])
            self.history = [EpochMetrics(**metrics) for metrics in saved["history"]]
            self.step, self.seconds = int(saved["step"]), float(saved["seconds"])
            self.loss_sum = saved["loss_sum"]
            self.micro_batch = int(saved.get("micro_batch", self.micro_batch))
            torch.set_rng_state(_own(saved["random"]))
            if saved["random_cuda"] is not None:
                torch.cuda.set_rng_state(_own(saved["random_cuda"]), device)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as err:
            raise DataError(
                f"{path} is of another network; delete it and rerun: the fold starts again"
            ) from err


def _own(random_states: Sequence[Tensor] | Tensor) -> Tensor:
    """This process's; another's where it was not there. Once there was one alone for all."""
    states = [random_states] if isinstance(random_states, Tensor) else random_states
    return states[group.rank() % len(states)].cpu()
