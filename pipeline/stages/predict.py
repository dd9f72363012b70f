"""predict: the test images through every fold's network, views and folds averaged."""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm

from pipeline.artifacts import verify_manifest
from pipeline.data.cache import load_cache
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
    execution = run.execution if run.execution.is_available() else choose_execution()
    device = torch.device(execution.device)
    images = near(data.test.images, device)
    index = torch.arange(len(images), device=images.device)
    total = torch.zeros(len(images), len(data.classes), dtype=torch.float64)
    for number in tqdm(run.folds, desc="predict", unit="fold", dynamic_ncols=True):
        verify_manifest(run.fold(number))
        model = run.network.load(run.fold(number)).to(device)
        total += predict_probabilities(
            model, images, index, run.mirror, execution, multi_label=run.multi_label
        )
    write_probabilities(
        path, probability_table(data.test.ids, total / len(run.folds), data.classes)
    )
    say("predict", f"done: {path} ({len(images)} images, {len(run.folds)} folds)")
    return path
