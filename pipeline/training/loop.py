"""The training loop: one fold, one screen, no host-device synchronisation inside an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.training import group
from pipeline.training.augment import shrink
from pipeline.training.batches import FoldData, epoch_batches, steps_per_epoch, valid_batches
from pipeline.training.deadline import Deadline
from pipeline.training.execution import Execution
from pipeline.training.keeping import validation_score
from pipeline.training.losses import plain_losses
from pipeline.training.memory import peak_memory
from pipeline.training.recipes import Recipe
from pipeline.training.seeds import derive_seed
from pipeline.training.state import EpochMetrics, TrainingState
from pipeline.training.step import take_step


def train_fold(
    state: TrainingState,
    data: FoldData,
    recipe: Recipe,
    execution: Execution,
    seed: int,
    save: Callable[[TrainingState], None],
    deadline: Deadline,
) -> None:
    """Train from where `state` stands to the recipe's last epoch; `save` follows every epoch.

    Raises:
        BudgetError: the deadline has come; `save` was called with the state as it is.
        ConfigError: a loss is not a number any more, or one image is too many for the memory.
    """
    for epoch in range(len(state.history), recipe.epochs):
        side = recipe.side_for(epoch, data.side)
        start = time.perf_counter() - state.seconds
        state.freeze(recipe.is_frozen(epoch))
        train_epoch(state, data, recipe, side, derive_seed(seed, epoch), deadline)
        state.seconds = time.perf_counter() - start
        if state.step < steps_per_epoch(data, state.batch):
            save(state)
            deadline.check()
        finish_epoch(state, data, execution, side, start)
        save(state)
        if _is_due(deadline):
            deadline.check()


def train_epoch(
    state: TrainingState,
    data: FoldData,
    recipe: Recipe,
    side: int,
    seed: int,
    deadline: Deadline,
) -> None:
    """One pass over the training images at size `side`, or what the deadline leaves of it."""
    state.to_training()
    if state.step == 0:
        torch.manual_seed(derive_seed(seed, "dropout") + group.rank())
        state.loss_sum.zero_()
    for images, labels in epoch_batches(data, recipe, state.batch, seed, skip=state.step):
        state.loss_sum += take_step(state, shrink(images, side), labels)
        state.schedule.step()
        if state.average:
            state.average.update()
        state.step += 1
        if _is_due(deadline):
            return


def _is_due(deadline: Deadline) -> bool:
    """Whether the deadline has come for any of the processes that train the fold together."""
    due = group.anywhere(deadline.has_come)
    if due:
        deadline.set_off()
    return due


def finish_epoch(
    state: TrainingState, data: FoldData, execution: Execution, side: int, start: float
) -> None:
    """Validate, note the epoch in the history, and keep its network if it is the best.

    Raises:
        ConfigError: a loss is not a number any more, or the metric is undefined.
    """
    steps = max(state.step, 1) * group.size()
    epoch, train_loss = len(state.history), group.total(state.loss_sum).item() / steps
    _check_finite("training", epoch, train_loss)
    valid_loss, valid_accuracy, logits = evaluate(state.validated, data, execution, side)
    _check_finite("validation", epoch, valid_loss)
    valid_score = None
    if state.best and side == data.side:
        valid_score = validation_score(state.best.metric, data, logits)
        state.best.offer(epoch, valid_score, state.validated)
    metrics = EpochMetrics(
        epoch=epoch,
        side=side,
        train_loss=train_loss,
        valid_loss=valid_loss,
        valid_accuracy=valid_accuracy,
        learning_rate=float(max(state.schedule.get_last_lr())),
        seconds=time.perf_counter() - start,
        valid_score=valid_score,
        peak_memory=peak_memory(data.labels.device),
    )
    state.history.append(metrics)
    state.step, state.seconds = 0, 0.0


def _check_finite(kind: str, epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise ConfigError(
            f"the {kind} loss of epoch {epoch} is {loss}; lower the learning rate, such as "
            "SET='learning_rate=0.01', or choose SET='precision=fp32'"
        )


@torch.inference_mode()
def evaluate(
    model: nn.Module, data: FoldData, execution: Execution, side: int
) -> tuple[float, float, Tensor]:
    """Mean loss and accuracy on the fold's validation images, plain view, at size `side`.

    Where images have several labels, accuracy is the share of the labels that are right. With them
    come the logits float32 [n, classes] of the images that this process saw, on the device.
    """
    model.eval()
    loss = correct = torch.zeros((), device=data.labels.device)
    seen = []
    for images, labels in valid_batches(data):
        with execution.autocast():
            logits = model(shrink(images, side)).float()
        of_images, right = plain_losses(logits, labels)
        seen.append(logits)
        loss, correct = loss + of_images.sum(), correct + right.sum()
    means = group.total(torch.stack([loss, correct.float()])).double() / len(data.valid)
    return means[0].item(), means[1].item(), torch.cat(seen)
