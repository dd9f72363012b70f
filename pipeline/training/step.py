"""One training step: the gradients of a batch, then the optimiser's update."""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from tqdm import tqdm

from pipeline.training import group
from pipeline.training.memory import too_little_memory
from pipeline.training.state import TrainingState


def take_step(state: TrainingState, images: Tensor, labels: Tensor) -> Tensor:
    """Move the network by one batch; its mean loss comes back, on the device.

    Raises:
        ConfigError: one image is too many for the memory.
    """
    if state.recording:
        return state.recording.step(state, images, labels)
    return plain_step(state, images, labels)


def plain_step(state: TrainingState, images: Tensor, labels: Tensor) -> Tensor:
    """`take_step`, with every kernel launched by the host.

    Raises:
        ConfigError: one image is too many for the memory.
    """
    loss = gradients(state, images, labels)
    update(state)
    return loss


def update(state: TrainingState) -> None:
    """Let the optimiser take its step, unless the scaled gradients overflowed."""
    step_clipped(state.optimizer, state.scaler, state.clip)


def step_clipped(optimizer: Optimizer, scaler: GradScaler, clip: float) -> None:
    """`update`; where `clip` is not 0, all gradients together are first scaled down to that norm.

    Pascanu et al. 2013, arXiv:1211.5063.
    """
    if clip:
        scaler.unscale_(optimizer)
        clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
    scaler.step(optimizer)
    scaler.update()


def gradients(state: TrainingState, images: Tensor, labels: Tensor) -> Tensor:
    """The mean loss of a batch; its gradients are left in the parameters.

    Out of memory, the micro-batch is halved and the batch goes through again: the gradients are of
    the same batch, but batch norm sees fewer images at a time.

    Raises:
        ConfigError: one image is too many for the memory.
    """
    while True:
        try:
            return accumulate(state, images, labels)
        except torch.OutOfMemoryError as err:
            state.optimizer.zero_grad(set_to_none=True)
            if state.micro_batch < 4 or group.size() > 1:
                raise too_little_memory(images, min(state.micro_batch, len(images))) from err
            state.micro_batch = state.micro_batch // 2
            tqdm.write(
                f"out of memory: {state.micro_batch} images at once from here on, still "
                f"{state.batch} a step; batch norm sees the smaller number",
                file=sys.stderr,
            )


def accumulate(state: TrainingState, images: Tensor, labels: Tensor) -> Tensor:
    """`gradients` with the micro-batch as it is, or less: no part is much smaller than the others.

    Raises:
        torch.OutOfMemoryError: there are too many images in it.
    """
    state.optimizer.zero_grad(set_to_none=True)
    total, whole = torch.zeros_like(state.loss_sum), group.mean(state.weigh(labels))
    parts = math.ceil(len(images) / state.micro_batch)
    for part, target in zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True):
        loss = state.loss(part, target) * (state.weigh(target) / whole)
        state.scaler.scale(loss).backward()
        total += loss.detach()
    return total
