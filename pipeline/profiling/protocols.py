"""What one measurement runs: a training step, the published passes, or inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.profiling.subjects import Subject

Mark = Callable[[], None]
PUBLISHED_PASSES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """A unit of work, and the names of its phases; `run` marks the end of each."""

    phases: tuple[str, ...]
    run: Callable[[Subject, Mark], object]


def _training_step(subject: Subject, mark: Mark) -> None:
    loss = subject.loss(subject.forward())
    mark()
    subject.scaler.scale(loss).backward()
    mark()
    subject.scaler.step(subject.optimizer)
    subject.scaler.update()
    subject.optimizer.zero_grad(set_to_none=True)
    subject.input.grad = None
    mark()


def _published_passes(subject: Subject, mark: Mark) -> object:
    """Each pass is computed while the graph of the one before is still held."""
    output = None
    for _ in range(PUBLISHED_PASSES):
        output = subject.forward()
    mark()
    return output


def _inference(subject: Subject, mark: Mark) -> object:
    output = subject.infer()
    mark()
    return output


# "published" is how the study of bottleneck and separable convolutions timed VBNet: ten forward
# passes in training mode. "step" is what training repeats: forward and loss, backward, optimiser.
PROTOCOLS = {
    "step": Protocol(phases=("forward", "backward", "optimizer"), run=_training_step),
    "published": Protocol(phases=("forward",), run=_published_passes),
}
INFERENCE = Protocol(phases=("inference",), run=_inference)
