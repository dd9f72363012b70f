"""One fold as an artefact: trained weights, per-epoch metrics and out-of-fold predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.artifacts import write_whole
from pipeline.models import ImageClassifier, make_model
from pipeline.models.classifier import channel_statistics
from pipeline.training.loop import EpochMetrics, FoldData, train_fold
from pipeline.training.precision import Execution
from pipeline.training.predict import predict_probabilities
from pipeline.training.recipes import Recipe
from pipeline.training.seeds import derive_seed

WEIGHTS = "weights.safetensors"
METRICS = "metrics.jsonl"
OUT_OF_FOLD = "oof.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """What it takes to build a run's network."""

    model: str
    conv: str
    channels: int
    classes: int
    dropout: float

    def build(self, mean: Tensor, std: Tensor) -> ImageClassifier:
        """A freshly drawn network that normalises by `mean` and `std`, each [channels]."""
        net = make_model(self.model, self.conv, self.channels, self.classes, self.dropout)
        return ImageClassifier(net, mean, std)

    def load(self, folder: Path) -> ImageClassifier:
        """The network as trained into a fold's folder."""
        model = self.build(torch.zeros(self.channels), torch.ones(self.channels))
        model.load_state_dict(load_file(folder / WEIGHTS))
        return model


def run_fold(
    folder: Path,
    network: Network,
    data: FoldData,
    recipe: Recipe,
    execution: Execution,
    seed: int,
    on_epoch: Callable[[EpochMetrics], None],
) -> Tensor:
    """Train one fold into `folder`; returns its validation probabilities [valid, classes]."""
    torch.manual_seed(derive_seed(seed, "initialise"))
    mean, std = channel_statistics(data.images[data.train])
    model = network.build(mean, std).to(data.images.device)
    history: list[EpochMetrics] = []

    def record(metrics: EpochMetrics) -> None:
        history.append(metrics)
        lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in history)
        write_whole(folder / METRICS, lines.encode())
        on_epoch(metrics)

    train_fold(model, data, recipe, execution, seed, record)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    return predict_probabilities(model, data.images, data.valid, data.mirror, execution)


def probability_table(
    ids: Sequence[str], probabilities: Tensor | np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """Probabilities [N, classes] as a table indexed by id, one column per class."""
    values = np.asarray(probabilities, dtype=np.float64)
    return pd.DataFrame(values, index=pd.Index(ids, name="id"), columns=list(classes))


def write_probabilities(path: Path, table: pd.DataFrame) -> None:
    """Save a probability table as CSV; seven digits keep all that fp32 knows."""
    write_whole(path, table.to_csv(float_format="%.7g").encode())


def read_probabilities(path: Path) -> pd.DataFrame:
    """Read a probability table; ids stay text."""
    return pd.read_csv(path, dtype={"id": str}, keep_default_na=False).set_index("id")
