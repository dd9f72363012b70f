"""predict: the test images through every fold's network, views and folds averaged."""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm

from pipeline.artifacts import read_json
from pipeline.competition import Competition
from pipeline.data.cache import load_cache
from pipeline.stages.console import say
from pipeline.stages.train import RUN, fold_folder, run_execution, run_network
from pipeline.training.fold import probability_table, write_probabilities
from pipeline.training.predict import predict_probabilities

PREDICTIONS = "test.csv"


def predict(run: Path, competition: Competition, cache: Path) -> Path:
    """The run's test.csv: one row of class probabilities per test id."""
    path = run / PREDICTIONS
    if path.exists():
        say("predict", f"up to date: {path}")
        return path
    record = read_json(run / RUN)
    data = load_cache(cache)
    execution, network = run_execution(record), run_network(record)
    images = data.test.images.to(execution.device)
    index = torch.arange(len(images), device=images.device)
    total = torch.zeros(len(images), len(data.classes), dtype=torch.float64)
    folds = range(record["folds"]["count"])
    for number in tqdm(folds, desc="predict", unit="fold", dynamic_ncols=True):
        model = network.load(fold_folder(run, number)).to(images.device)
        total += predict_probabilities(model, images, index, competition.data.mirror, execution)
    table = probability_table(data.test.ids, total / len(folds), data.classes)
    write_probabilities(path, table)
    say("predict", f"done: {path} ({len(table)} images, {len(folds)} folds)")
    return path
