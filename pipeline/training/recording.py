"""A training step recorded as a CUDA graph: the host starts one thing a step, not hundreds.

Networks for small images have kernels of a few microseconds, which a GPU finishes faster than a
host can launch them one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from tqdm import tqdm

from pipeline.training.state import TrainingState
from pipeline.training.step import accumulate, plain_step, update

# Taken plainly first: they make the optimiser's state, and let libraries choose their kernels.
WARM_UP_STEPS = 3


@dataclass(frozen=True, slots=True)
class Recorded:
    """A graph, the tensors that it reads and the loss that it writes.

    `rates` are the learning rates by group; None where the update is not part of the graph.
    """

    graph: torch.cuda.CUDAGraph
    images: Tensor
    labels: Tensor
    loss: Tensor
    rates: Sequence[Tensor] | None


class Recording:
    """Takes the steps of one training state, as replays once a few of a kind were taken plainly.

    A replay runs the same kernels on the same memory, so what differs between steps is copied to
    where they read it: the images, the labels, the learning rates. Where anything else changes,
    such as the images' size, steps are plain again and then recorded anew. The update stays
    outside where the host takes part in it: where a gradient scaler may skip it, or a schedule
    moves more than the rate. What cannot be recorded at all goes on plainly.
    """

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._kind: tuple[Any, ...] = ()
        self._settings: list[dict[str, Any]] = []
        self._taken = 0
        self._recorded: Recorded | None = None
        self.problem: str | None = None

    @property
    def is_replaying(self) -> bool:
        """Whether the last step was a replay, or was recorded."""
        return self._recorded is not None

    def step(self, state: TrainingState, images: Tensor, labels: Tensor) -> Tensor:
        """As `pipeline.training.step.take_step`; the loss is overwritten by the next step."""
        self._forget_if_other(state, images, labels)
        if self._recorded is None and self._taken == WARM_UP_STEPS and self.problem is None:
            self._recorded = self._record(state, images, labels)
        if self._recorded is None:
            self._taken = min(self._taken + 1, WARM_UP_STEPS)
            return self._plainly(state, images, labels)
        return _replay(self._recorded, state, images, labels)

    def _forget_if_other(self, state: TrainingState, images: Tensor, labels: Tensor) -> None:
        shapes = images.shape, images.dtype, labels.shape, labels.dtype
        kind = (*shapes, state.micro_batch, state.is_frozen)
        has_update = self._recorded is not None and self._recorded.rates is not None
        if kind == self._kind and not (has_update and _settings(state.optimizer) != self._settings):
            return
        self._kind, self._settings = kind, _settings(state.optimizer)
        self._taken, self._recorded = 0, None

    def _plainly(self, state: TrainingState, images: Tensor, labels: Tensor) -> Tensor:
        """On the stream that is recorded later: autograd keeps to the one it began on."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            loss = plain_step(state, images, labels)
        current.wait_stream(self._stream)
        return loss

    def _record(self, state: TrainingState, images: Tensor, labels: Tensor) -> Recorded | None:
        """Nothing is computed yet, and nothing of the state changes."""
        with_update = not state.scaler.is_enabled() and _settings(state.optimizer) == self._settings
        groups = state.optimizer.param_groups
        rates = [torch.tensor(float(group["lr"]), device=images.device) for group in groups]
        graph, images, labels = torch.cuda.CUDAGraph(), images.clone(), labels.clone()
        try:
            # Only this thread keeps to what can be recorded: another may be pinning a next batch.
            recorder = torch.cuda.graph(
                graph, stream=self._stream, capture_error_mode="thread_local"
            )
            with recorder, _rates(state.optimizer, rates):
                loss = accumulate(state, images, labels)
                if with_update:
                    update(state)
        except RuntimeError as err:  # out of memory, or the network waits for the device
            self.problem = next(iter(str(err).strip().splitlines()), type(err).__name__)
            message = f"training steps cannot be recorded and are launched: {self.problem}"
            tqdm.write(message, file=sys.stderr)
            return None
        return Recorded(graph, images, labels, loss, rates if with_update else None)


def _replay(recorded: Recorded, state: TrainingState, images: Tensor, labels: Tensor) -> Tensor:
    recorded.images.copy_(images)
    recorded.labels.copy_(labels)
    if recorded.rates is None:
        recorded.graph.replay()
        update(state)
        return recorded.loss
    for group, rate in zip(state.optimizer.param_groups, recorded.rates, strict=True):
        rate.fill_(group["lr"])
    recorded.graph.replay()
    return recorded.loss


def _settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """What a recorded update would not see change."""
    return [
        {name: value for name, value in group.items() if name not in ("params", "lr")}
        for group in optimizer.param_groups
    ]


@contextmanager
def _rates(optimizer: Optimizer, rates: Sequence[Tensor]) -> Iterator[None]:
    """The optimiser with its learning rates where kernels read them, and leave to be recorded."""
    before = [dict(group) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
        if "capturable" in group:
            group["capturable"] = True
    try:
        yield
    finally:
        for group, values in zip(optimizer.param_groups, before, strict=True):
            group.update(values)
