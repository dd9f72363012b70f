"""lr-find: which learning rate to train with, by a range test on the first fold's images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.artifacts import write_json, write_whole
from pipeline.competition import Competition
from pipeline.data.cache import TensorCache, load_cache
from pipeline.models import ImageClassifier
from pipeline.models.classifier import channel_statistics
from pipeline.stages.console import say
from pipeline.stages.network import network_of
from pipeline.stages.settings import Settings, changes
from pipeline.training.augment import shrink
from pipeline.training.batches import FoldData, epoch_batches
from pipeline.training.execution import choose_execution, for_network
from pipeline.training.folds import assign_folds
from pipeline.training.losses import loss_of_labels
from pipeline.training.lr_finder import RangeTest, plot_range_test, range_test
from pipeline.training.optimizers import make_optimizer
from pipeline.training.placement import near
from pipeline.training.recipes import Recipe, make_recipe
from pipeline.training.seeds import derive_seed

FOLD = 0


def lr_find(settings: Settings, competition: Competition, cache: Path) -> Path:
    """Run the range test of the settings' network and recipe; returns the JSON that it wrote.

    The plot lies beside it.

    Raises:
        ConfigError: the folds do not fit the data, or nothing is learned at any rate.
    """
    of_recipe, asked = changes(settings)
    data, recipe = load_cache(cache), make_recipe(settings.recipe, of_recipe)
    execution = choose_execution(asked=asked)
    fold = _fold(settings, competition, data, torch.device(execution.device))
    batch = recipe.batch_for(len(fold.train))
    model = _model(settings, recipe, data, fold)
    smallest = shrink(fold.images[:2], recipe.side_for(0, fold.side)).to(fold.labels.device)
    execution = for_network(execution, model, smallest, asked)
    execution.prepare_process()

    def optimizer_of(model: nn.Module) -> Optimizer:
        return make_optimizer(
            recipe.optimizer,
            model,
            learning_rate=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )

    result = range_test(
        model,
        optimizer_of,
        _batches(fold, recipe, batch, settings.seed),
        execution,
        loss_of_labels(recipe, fold),
        recipe.clip,
    )
    return _write(settings, recipe, result, batch)


def _fold(
    settings: Settings, competition: Competition, data: TensorCache, device: torch.device
) -> FoldData:
    labels = data.train.known_labels()
    numbers = assign_folds(
        labels.numpy(), data.train.groups, settings.folds, settings.fold_seed, data.classes
    )
    images = near(data.train.images, device)
    return FoldData(
        images=images,
        labels=labels.to(device),
        train=torch.from_numpy(np.flatnonzero(numbers != FOLD)).to(images.device),
        valid=torch.from_numpy(np.flatnonzero(numbers == FOLD)).to(images.device),
        classes=len(data.classes),
        mirror=bool(competition.data.mirror),
    )


def _model(
    settings: Settings, recipe: Recipe, data: TensorCache, fold: FoldData
) -> ImageClassifier:
    torch.manual_seed(derive_seed(settings.seed, FOLD, "initialise"))
    network, weights = network_of(settings, recipe, data)
    mean, std = network.normalisation or channel_statistics(fold.images, fold.train)
    return network.build(mean, std, weights.path if weights else None).to(fold.labels.device)


def _batches(
    fold: FoldData, recipe: Recipe, batch: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The images of epoch after epoch, at the size that the first one sees."""
    side = recipe.side_for(0, fold.side)
    for epoch in count():
        for images, labels in epoch_batches(fold, recipe, batch, derive_seed(seed, FOLD, epoch)):
            yield shrink(images, side), labels


def _write(settings: Settings, recipe: Recipe, result: RangeTest, batch: int) -> Path:
    peak = result.suggestion
    learning_rate = float(f"{peak * recipe.batch_size / batch:.2g}")
    variant = {"conv": settings.conv, "model": settings.model, "recipe": settings.recipe}
    subject: dict[str, Any] = {**variant, "optimizer": recipe.optimizer, "batch": batch}
    folder = settings.workspace.runs(settings.competition) / "lr-find"
    name = "-".join([*variant.values(), recipe.optimizer]).replace("/", "-")
    path = folder / f"{name}.json"
    suggested = {"rate": peak, "learning_rate": learning_rate}
    write_json(path, {**subject, "suggestion": suggested, **asdict(result)})
    title = f"{settings.model}, {settings.conv}, {recipe.optimizer}, {batch} images per step"
    write_whole(folder / f"{name}.png", plot_range_test(title, result))
    say("lr-find", f"written: {path} and {name}.png")
    say(
        "lr-find",
        f"learning_rate={learning_rate:g} suggested for {recipe.optimizer}, as the peak of a "
        f"schedule with warm-up ({peak:.2g} at {batch} images per step): train with "
        f"SET='learning_rate={learning_rate:g}', and try a third and three times as much",
    )
    return path
