"""predict: the test images through every fold's network, views and folds averaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.artifacts import verify_manifest
from pipeline.data.cache import TensorCache, load_cache
from pipeline.stages.console import say
from pipeline.training.execution import choose_execution
from pipeline.training.placement import near
from pipeline.training.predict import predict_probabilities
from pipeline.training.run import Run
from pipeline.training.tables import probability_table, write_probabilities

PREDICTIONS = "test.csv"


def predict(folder: Path, cache: Path) -> Path:
    """The test.csv of the run in `folder`: one row of class probabilities per test id."""
    path = folder / PREDICTIONS
    if path.exists():
        say("predict", f"up to date: {path}")
        return path
    run, data = Run.open(folder), load_cache(cache)
    verify_manifest(cache)
    total = torch.zeros(len(data.test.ids), len(data.classes), dtype=torch.float64)
    for probabilities in predictions_by_fold(run, data):
        total += probabilities
    write_probabilities(
        path, probability_table(data.test.ids, total / len(run.folds), data.classes)
    )
    say("predict", f"done: {path} ({len(data.test.ids)} images, {len(run.folds)} folds)")
    return path


def predictions_by_fold(run: Run, data: TensorCache) -> Iterator[Tensor]:
    """What each fold's network says of the test images, float32 [N, classes], views averaged.

    Raises:
        DataError: a fold's files are damaged.
    """
    execution = run.execution if run.execution.is_available() else choose_execution()
    execution.prepare_process()
    device = torch.device(execution.device)
    images = near(data.test.images, device)
    index = torch.arange(len(images), device=images.device)
    for number in tqdm(run.folds, desc="predict", unit="fold", dynamic_ncols=True):
        verify_manifest(run.fold(number))
        model = run.network.load(run.fold(number)).to(device)
        yield predict_probabilities(
            model,
            images,
            index,
            run.mirror,
            execution,
            max_shift=run.recipe.shift_for(min(images.shape[1:3])),
            multi_label=run.multi_label,
        )
