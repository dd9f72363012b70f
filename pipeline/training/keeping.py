"""The epoch that is kept: the best one by the competition's own metric."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.metrics import lower_is_better, score
from pipeline.training import group
from pipeline.training.batches import FoldData


class BestEpoch:
    """The best epoch so far, the first of equal ones, and its network's weights.

    The fold's own validation images choose it, so the fold's score on the same images flatters:
    it is the highest of several noisy ones. The test images are not chosen on.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.epoch: int | None = None
        self.score = 0.0
        self.weights: dict[str, Tensor] = {}

    def offer(self, epoch: int, value: float, model: nn.Module) -> None:
        """Keep a copy of the model's weights if `value` beats all earlier epochs."""
        sign = -1 if lower_is_better(self.metric) else 1
        if self.epoch is None or sign * value > sign * self.score:
            self.epoch, self.score = epoch, value
            self.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, for a checkpoint."""
        return {"epoch": self.epoch, "score": self.score, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.epoch, self.score, self.weights = state["epoch"], state["score"], state["weights"]


@torch.inference_mode()
def validation_score(metric: str, data: FoldData, logits: Tensor) -> float:
    """The metric on the fold's validation images.

    `logits` float32 [n, classes] are of all of them or, in a group of processes, of this one's
    share; the score is of all in any case.

    Raises:
        ConfigError: it is undefined on these images.
    """
    shared = torch.zeros(len(data.valid), data.classes, device=logits.device)
    rows = group.share(torch.arange(len(data.valid), device=logits.device))
    shared[rows] = logits.sigmoid() if data.multi_label else logits.softmax(1)
    truth = data.labels[data.valid.to(data.labels.device)].cpu().numpy()
    value = score(metric, truth, group.total(shared).double().cpu().numpy())
    if not math.isfinite(value):
        raise ConfigError(
            f"{metric} is undefined on a fold's {len(truth)} validation images, so it can choose "
            "no epoch; choose SET='keep=last', or another FOLDS or FOLD_SEED"
        )
    return value
