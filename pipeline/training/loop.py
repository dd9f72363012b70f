"""The training loop: one fold, one screen, no host-device synchronisation inside an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import DataError
from pipeline.training.augment import fixed_view, random_views, shrink, take
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.deadline import Deadline
from pipeline.training.precision import Execution
from pipeline.training.recipes import Recipe
from pipeline.training.seeds import derive_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldData:
    """A competition's training images on the device, and which of them one fold uses.

    `images` uint8 [N, H, W, C]; `labels` int64 [N]; `train` and `valid` are int64 row numbers.
    """

    images: Tensor
    labels: Tensor
    train: Tensor
    valid: Tensor
    mirror: bool

    @property
    def side(self) -> int:
        """The images' shorter side in pixels."""
        return min(self.images.shape[1:3])


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochMetrics:
    """What one epoch measured; losses are means per image.

    Validation sees plain images of `side` pixels, the size that the epoch trained on.
    """

    epoch: int
    side: int
    train_loss: float
    valid_loss: float
    valid_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(kw_only=True, slots=True)
class TrainingState:
    """All that changes while a fold trains, apart from the random streams, which are derived."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    history: list[EpochMetrics] = field(default_factory=list)

    def _parts(self) -> list[Any]:
        return [self.model, self.optimizer, self.schedule, self.scaler]

    def save(self, path: Path) -> None:
        """Write the state as it is between two epochs."""
        parts = [part.state_dict() for part in self._parts()]
        history = [asdict(metrics) for metrics in self.history]
        save_checkpoint(path, {"parts": parts, "history": history})

    def resume(self, path: Path, device: torch.device) -> None:
        """Go on from the state in `path`.

        Raises:
            DataError: the file is damaged, or was written by other code.
        """
        saved = load_checkpoint(path, device)
        try:
            for part, values in zip(self._parts(), saved["parts"], strict=True):
                part.load_state_dict(values)
            self.history = [EpochMetrics(**metrics) for metrics in saved["history"]]
        except (KeyError, TypeError, ValueError, RuntimeError) as err:
            raise DataError(f"{path} is of another network; delete it and rerun") from err


def train_fold(
    state: TrainingState,
    data: FoldData,
    recipe: Recipe,
    execution: Execution,
    seed: int,
    after_epoch: Callable[[TrainingState], None],
    deadline: Deadline,
) -> None:
    """Train from where `state` stands to the recipe's last epoch.

    Raises:
        BudgetError: the next epoch would not end before the deadline.
    """
    batch = recipe.batch_for(len(data.train))
    for epoch in range(len(state.history), recipe.epochs):
        start = time.perf_counter()
        state.model.train()
        side, losses = recipe.side_for(epoch, data.side), []
        torch.manual_seed(derive_seed(seed, epoch, "dropout"))
        for images, labels in epoch_batches(data, recipe, batch, derive_seed(seed, epoch)):
            with execution.autocast():
                logits = state.model(shrink(images, side))
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
            state.scaler.scale(loss).backward()
            state.scaler.step(state.optimizer)
            state.scaler.update()
            state.optimizer.zero_grad(set_to_none=True)
            state.schedule.step()
            losses.append(loss.detach())
        valid_loss, valid_accuracy = evaluate(state.model, data, execution, side)
        metrics = EpochMetrics(
            epoch=epoch,
            side=side,
            train_loss=torch.stack(losses).mean().item(),
            valid_loss=valid_loss,
            valid_accuracy=valid_accuracy,
            learning_rate=float(state.schedule.get_last_lr()[0]),
            seconds=time.perf_counter() - start,
        )
        state.history.append(metrics)
        after_epoch(state)
        deadline.check(needed=2 * metrics.seconds)


def start_training(
    model: nn.Module, data: FoldData, recipe: Recipe, execution: Execution
) -> TrainingState:
    """The state before the first epoch."""
    batch = recipe.batch_for(len(data.train))
    steps = recipe.epochs * (len(data.train) // batch)
    optimizer = make_optimizer(model, recipe, batch)
    return TrainingState(
        model=model,
        optimizer=optimizer,
        schedule=torch.optim.lr_scheduler.LambdaLR(optimizer, one_cycle(steps, recipe.warmup)),
        scaler=execution.scaler(),
    )


def epoch_batches(
    data: FoldData, recipe: Recipe, batch: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every training image once in random order, augmented; an incomplete last batch is left out.

    Yields uint8 images [batch, H, W, C] and labels [batch].
    """
    device = data.images.device
    generator = torch.Generator().manual_seed(seed)
    order = data.train[torch.randperm(len(data.train), generator=generator).to(device)]
    max_shift = round(recipe.max_shift * data.side)
    for index in order.split(batch):
        if len(index) == batch:
            views = random_views(batch, max_shift, data.mirror, generator, device)
            yield take(data.images, index, views), data.labels[index]


@torch.inference_mode()
def evaluate(
    model: nn.Module, data: FoldData, execution: Execution, side: int, batch: int = 512
) -> tuple[float, float]:
    """Mean loss and accuracy on the fold's validation images, plain view, at side `side`."""
    model.eval()
    loss = correct = torch.zeros((), device=data.images.device)
    for index in data.valid.split(batch):
        view = fixed_view(len(index), 0, 0, False, data.images.device)
        with execution.autocast():
            logits = model(shrink(take(data.images, index, view), side))
        labels = data.labels[index]
        loss = loss + F.cross_entropy(logits.float(), labels, reduction="sum")
        correct = correct + (logits.argmax(1) == labels).sum()
    return loss.item() / len(data.valid), correct.item() / len(data.valid)


def make_optimizer(model: nn.Module, recipe: Recipe, batch: int) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; the rate scales with the batch, 1-d parameters do not decay."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    kept = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.SGD(
        [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": kept, "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate * batch / 256,
        momentum=recipe.momentum,
        nesterov=True,
        fused=True,
    )


def one_cycle(steps: int, warmup: float) -> Callable[[int], float]:
    """Learning rate factor by step: a linear rise over `warmup`, then a linear fall to zero."""
    peak = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < peak:
            return (step + 1) / peak
        return max(0.0, (steps - step) / max(1, steps - peak))

    return factor
