"""A run folder: what made it (run.json), its fold map, and one folder per fold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.artifacts import is_complete, read_json
from pipeline.errors import DataError
from pipeline.models import ImageClassifier, make_model
from pipeline.training.precision import Execution
from pipeline.training.recipes import Recipe

RECORD = "run.json"
FOLDS = "folds.csv"
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


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder and its record."""

    folder: Path
    record: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Run:
        """The run in `folder`.

        Raises:
            DataError: its record is damaged.
        """
        return cls(folder, read_json(folder / RECORD))

    @property
    def network(self) -> Network:
        """The network that every fold trains."""
        return Network(**self._part("network"))

    @property
    def recipe(self) -> Recipe:
        """How every fold is trained."""
        return Recipe(**{k: v for k, v in self._part("recipe").items() if k != "name"})

    @property
    def execution(self) -> Execution:
        """The decisions taken when the run began."""
        return Execution(**self._part("execution"))

    @property
    def mirror(self) -> bool:
        """Whether a mirrored image keeps its label."""
        return bool(self.record["mirror"])

    @property
    def seed(self) -> int:
        """Every random stream derives from it."""
        return int(self.record["seed"])

    @property
    def folds(self) -> range:
        """The numbers of the folds."""
        return range(self._part("folds")["count"])

    def fold(self, number: int) -> Path:
        """Where one fold lies once it is trained."""
        return self.folder / f"fold{number}"

    def missing_folds(self) -> list[int]:
        """The folds that are not trained yet."""
        return [number for number in self.folds if not is_complete(self.fold(number))]

    def _part(self, key: str) -> dict[str, Any]:
        part = self.record.get(key)
        if not isinstance(part, dict):
            path = self.folder / RECORD
            raise DataError(f"{path} has no {key!r}; delete {self.folder} and rerun")
        return part
