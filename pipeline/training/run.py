"""A run folder: what made it (run.json), its fold map, and one folder per fold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.artifacts import is_complete, read_json, unfinished_folder
from pipeline.errors import ConfigError, DataError
from pipeline.models import ImageClassifier, make_model
from pipeline.models.pretrained import read_tensors
from pipeline.training.execution import Execution
from pipeline.training.recipes import Recipe, recipe_fields

RECORD = "run.json"
FOLDS = "folds.csv"
WEIGHTS = "weights.safetensors"
METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.pt"
OUT_OF_FOLD = "oof.csv"
PSEUDO = "pseudo"  # in the record of a run that trains on pseudo-labels, too
MADE_FROM = "made_from"  # in the record of a run that was not trained, but made of others


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """What it takes to build a run's network."""

    model: str
    conv: str
    channels: int
    classes: int
    dropout: float
    weights: str | None = None
    """SHA-256 of the weights that it starts from; None: freshly drawn."""
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    """The normalisation that the weights were trained with; None: that of the training images."""

    @property
    def normalisation(self) -> tuple[Tensor, Tensor] | None:
        """Mean and deviation per channel where the weights bring them."""
        if self.mean is None or self.std is None:
            return None
        return torch.tensor(self.mean), torch.tensor(self.std)

    def build(self, mean: Tensor, std: Tensor, weights: Path | None = None) -> ImageClassifier:
        """A network at its start that normalises by `mean` and `std`, each [channels]."""
        net = make_model(self.model, self.conv, self.channels, self.classes, self.dropout, weights)
        return ImageClassifier(net, mean, std)

    def load(self, folder: Path) -> ImageClassifier:
        """The network as trained into a fold's folder.

        Raises:
            DataError: the weights there are damaged.
        """
        model = self.build(torch.zeros(self.channels), torch.ones(self.channels))
        model.load_state_dict(read_tensors(folder / WEIGHTS))
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
    def weights_file(self) -> Path | None:
        """Where the weights to start from lie on this machine."""
        path = self.record.get("weights_file")
        return Path(path) if path else None

    @property
    def recipe(self) -> Recipe:
        """How every fold is trained.

        Raises:
            ConfigError: an earlier version made the run, and its recipe has fields that are gone.
        """
        values = {k: v for k, v in self._part("recipe").items() if k != "name"}
        gone = sorted(values.keys() - recipe_fields())
        if gone:
            raise ConfigError(
                f"{self.folder} was trained by an earlier version: {len(gone)} fields of its "
                f"recipe are gone, first {gone[0]!r}; train it again"
            )
        return Recipe(**values)

    @property
    def execution(self) -> Execution:
        """The decisions taken when the run began."""
        return Execution(**self._part("execution"))

    def with_execution(self, execution: Execution) -> Run:
        """The same run, computed otherwise; its folder stays as it is."""
        return Run(self.folder, {**self.record, "execution": asdict(execution)})

    def absolute(self) -> Run:
        """The same run, its folder given from the root."""
        return Run(self.folder.absolute(), self.record)

    def can_execute(self) -> bool:
        """Whether the decisions are taken, and hold on this machine."""
        return "execution" in self.record and self.execution.is_available()

    @property
    def mirror(self) -> bool:
        """Whether a mirrored image keeps its label."""
        return bool(self.record["mirror"])

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return bool(self.record["multi_label"])

    @property
    def metric(self) -> str:
        """What chooses the epoch where the recipe keeps the best."""
        return str(self.record.get("metric", "accuracy"))

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

    def pseudo(self, number: int) -> Path | None:
        """Where the pseudo-labels of one fold lie, if the run has any."""
        return self.folder / f"pseudo{number}.csv" if PSEUDO in self.record else None

    def fold_seconds(self, number: int) -> float:
        """What the epochs of a trained fold took, compiling and validation included."""
        lines = (self.fold(number) / METRICS).read_text(encoding="utf-8").splitlines()
        return float(sum(json.loads(line)["seconds"] for line in lines))

    def epochs_done(self, number: int) -> int:
        """Those that a fold has behind it where its training was stopped."""
        folder = unfinished_folder(self.fold(number))
        if not (folder / CHECKPOINT).exists() or not (folder / METRICS).exists():
            return 0
        return (folder / METRICS).read_text(encoding="utf-8").count("\n")

    def missing_folds(self) -> list[int]:
        """The folds that are not trained yet."""
        return [number for number in self.folds if not is_complete(self.fold(number))]

    def _part(self, key: str) -> dict[str, Any]:
        part = self.record.get(key)
        if not isinstance(part, dict):
            if MADE_FROM in self.record:
                raise ConfigError(
                    f"{self.folder} was made from other runs and has no {key} of its own; name one "
                    "of them, or delete the folder if a file of it is gone, and make it again"
                )
            path = self.folder / RECORD
            raise DataError(f"{path} has no {key!r}; delete {self.folder} and rerun")
        return part


def epochs_below(folder: Path) -> int:
    """How many epochs are trained in all folds of the runs in or below a folder."""
    histories = (path.read_text(encoding="utf-8") for path in folder.rglob(METRICS))
    return sum(history.count("\n") for history in histories)
