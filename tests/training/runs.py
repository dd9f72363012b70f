"""A small run on handwritten digits, ready to train."""

import json
from dataclasses import asdict

import numpy as np
import torch
from sklearn.datasets import load_digits

from pipeline.competition import Competition
from pipeline.data.cache import Part, TensorCache, build_cache
from pipeline.data.layouts import RawDataset, RawPart
from pipeline.stages.train import ENGINE_VERSION
from pipeline.training.deadline import Deadline
from pipeline.training.execution import Execution
from pipeline.training.fold import run_fold
from pipeline.training.folds import write_folds
from pipeline.training.recipes import Recipe
from pipeline.training.run import Network, Run

CPU = torch.device("cpu")
FP32 = Execution(device="cpu", precision="fp32", threads=1)
NETWORK = Network(model="resnet14", conv="channel-selection", channels=1, classes=10, dropout=0.2)


def digit_images():
    """600 handwritten digits, 8 x 8, as a cache holds them."""
    data = load_digits()
    images = torch.from_numpy((data.images[:600, ..., None] * 15).astype(np.uint8))
    labels = torch.from_numpy(data.target[:600]).long()
    ids = [str(row) for row in range(600)]
    part = Part(images=images, ids=ids, labels=labels)
    return TensorCache(part, part, tuple("0123456789"))


def write_cache(data, folder):
    """The same on disk, for processes of their own."""
    folder.mkdir()
    labels = [str(label) for label in data.train.labels.tolist()]
    part = RawPart(data.train.ids, data.train.images.numpy(), labels)
    build_cache(RawDataset(part, part, data.classes, "arrays", Competition(slug="x")), folder)
    return folder


def make_run(
    folder,
    data,
    *,
    epochs=2,
    folds=4,
    seed=0,
    dropout=0.2,
    name="run",
    learning_rate=0.2,
    frozen=0.0,
    layer_decay=1.0,
    ema=0.0,
    keep="last",
    metric="accuracy",
    **decisions,
):
    recipe = Recipe(
        epochs=epochs,
        batch_size=256,
        dropout=dropout,
        learning_rate=learning_rate,
        frozen=frozen,
        layer_decay=layer_decay,
        ema=ema,
        keep=keep,
    )
    record = {
        "run": name,
        "engine_version": ENGINE_VERSION,
        "mirror": False,
        "multi_label": False,
        "metric": metric,
        "folds": {"count": folds},
        "seed": seed,
        "network": {**asdict(NETWORK), "dropout": dropout},
        "recipe": {"name": "test", **asdict(recipe)},
        "execution": {**asdict(FP32), **decisions},
    }
    write_folds(folder / "folds.csv", data.train.ids, np.arange(600) % folds)
    (folder / "run.json").write_text(json.dumps(record))
    return Run.open(folder)


def train(run, data, number=0, deadline=None):
    epochs = []
    run_fold(run, data, number, CPU, epochs.append, deadline or Deadline())
    return epochs
