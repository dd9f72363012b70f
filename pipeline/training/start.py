"""How training begins: the optimiser, schedule and loss that a recipe and an execution ask for."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.native_norm import use_native_norms
from pipeline.models.norm import use_sum_norms
from pipeline.training import group
from pipeline.training.averaging import Average
from pipeline.training.batches import FoldData, steps_per_epoch
from pipeline.training.compilation import compiled
from pipeline.training.execution import Execution
from pipeline.training.keeping import BestEpoch
from pipeline.training.losses import loss_of_labels, weight_of_labels
from pipeline.training.optimizers import make_optimizer
from pipeline.training.recipes import Recipe
from pipeline.training.recording import Recording
from pipeline.training.schedules import make_schedule
from pipeline.training.state import LossFunction, TrainingState


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
        weigh=weight_of_labels(recipe, data),
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
