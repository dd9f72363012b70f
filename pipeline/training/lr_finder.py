"""The learning rate range test: train a moment while the rate grows, and see how far it helps.

Smith 2015, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186.
"""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.errors import ConfigError
from pipeline.training.execution import Execution
from pipeline.training.step import step_clipped

LOWEST = 1e-5
HIGHEST = 10.0
STEPS = 100
_WINDOW = 7
_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class RangeTest:
    """The loss at each rate that was tried, one step each, rates rising.

    The suggestion is the highest rate whose smoothed loss is still as good as the lowest, up to a
    twentieth of the whole fall. It is meant as the peak of a schedule that rises and falls: four
    epochs of resnet14 were best within a factor of three of it with each of SGD, Adam, Muon and
    nntrain's rules, mostly of two, and much worse at a tenth of it, which is often advised.
    """

    rates: list[float]
    losses: list[float]

    @property
    def smoothed(self) -> list[tuple[float, float]]:
        """(rate, mean loss) of every seven successive steps; the rate is the middle one's."""
        return [
            (self.rates[start + _WINDOW // 2], fmean(self.losses[start : start + _WINDOW]))
            for start in range(len(self.losses) - _WINDOW + 1)
        ]

    @property
    def suggestion(self) -> float:
        """The highest rate whose smoothed loss is about the lowest.

        Raises:
            ConfigError: the loss never fell below where it began.
        """
        losses = [loss for _, loss in self.smoothed]
        if not losses or min(losses) == losses[0]:
            raise ConfigError(
                f"the loss did not fall in {len(self.rates)} steps of rising learning rate: "
                "nothing to suggest; check the labels in contact_sheet.png, or choose another "
                "network or optimizer"
            )
        enough = min(losses) + _TOLERANCE * (losses[0] - min(losses))
        return max(rate for rate, loss in self.smoothed if loss <= enough)

    @property
    def diverged(self) -> bool:
        """Whether half of the smoothed loss's fall is lost again, and a tenth of its first value.

        Beyond that the network may fall back to guessing, whose loss is low once more.
        """
        losses = [loss for _, loss in self.smoothed]
        if not losses:
            return False
        lost, fall = losses[-1] - min(losses), losses[0] - min(losses)
        return lost > max(0.5 * fall, 0.1 * losses[0])


def range_test(
    model: nn.Module,
    make_optimizer: Callable[[nn.Module], Optimizer],
    batches: Iterator[tuple[Tensor, Tensor]],
    execution: Execution,
    compare: Callable[[Tensor, Tensor], Tensor],
    clip: float = 0.0,
) -> RangeTest:
    """Train a copy of `model` for 100 steps, at rates from 1e-5 to 10, until it diverges.

    Args:
        model: stays as it is.
        make_optimizer: makes the optimiser of the copy; every group gets the same rate.
        batches: images as the model takes them, and their labels or targets.
        execution: the number format.
        compare: the mean loss of logits [batch, classes] against those labels.
        clip: the largest norm of a step's gradients; 0 for any.
    """
    model = copy.deepcopy(model).train()
    optimizer, scaler = make_optimizer(model), execution.scaler()
    result = RangeTest([], [])
    for step, (images, labels) in zip(range(STEPS), batches, strict=False):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
        for group in optimizer.param_groups:
            group["lr"] = rate
        with execution.autocast():
            logits = model(images)
        loss = compare(logits.float(), labels)
        if not math.isfinite(loss.item()):
            break
        result.rates.append(rate)
        result.losses.append(loss.item())
        if result.diverged:
            break
        scaler.scale(loss).backward()
        step_clipped(optimizer, scaler, clip)
        optimizer.zero_grad(set_to_none=True)
    return result


def plot_range_test(title: str, result: RangeTest) -> bytes:
    """A PNG: loss against rate, single steps and smoothed, with the suggestion."""
    from matplotlib.figure import Figure  # slow to import, and few commands draw

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.semilogx(result.rates, result.losses, ".", color="0.7", label="one step")
    smoothed = result.smoothed
    axes.semilogx(*zip(*smoothed, strict=True), label=f"mean of {_WINDOW}")
    suggestion = result.suggestion
    axes.axvline(suggestion, color="C3", ls="--", label=f"suggested: {suggestion:.2g}")
    axes.set_ylim(0.9 * min(loss for _, loss in smoothed), 1.5 * smoothed[0][1])
    axes.set(xlabel="learning rate", ylabel="training loss")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()
