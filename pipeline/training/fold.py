"""One fold of a run: trained, predicted and left as a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from pipeline.artifacts import resumable_folder, write_whole
from pipeline.data.cache import TensorCache
from pipeline.models.classifier import channel_statistics
from pipeline.training.deadline import Deadline
from pipeline.training.folds import read_folds
from pipeline.training.loop import EpochMetrics, FoldData, TrainingState, start_training, train_fold
from pipeline.training.predict import predict_probabilities
from pipeline.training.run import FOLDS, METRICS, OUT_OF_FOLD, WEIGHTS, Run
from pipeline.training.seeds import derive_seed
from pipeline.training.tables import probability_table, write_probabilities

CHECKPOINT = "checkpoint.pt"


def run_fold(
    run: Run,
    data: TensorCache,
    number: int,
    device: torch.device,
    on_epoch: Callable[[EpochMetrics], None],
    deadline: Deadline,
) -> None:
    """Train fold `number` into its folder, going on from its checkpoint if there is one.

    Raises:
        BudgetError: the deadline came first; the checkpoint stays.
        DataError: the checkpoint is damaged.
    """
    seed = derive_seed(run.seed, number)
    fold_data = _fold_data(run, data, number, device)
    with resumable_folder(run.fold(number)) as folder:
        state = _start(run, fold_data, seed)
        if (folder / CHECKPOINT).exists():
            state.resume(folder / CHECKPOINT, device)

        def after_epoch(state: TrainingState) -> None:
            state.save(folder / CHECKPOINT)
            _write_metrics(folder / METRICS, state.history)
            on_epoch(state.history[-1])

        train_fold(state, fold_data, run.recipe, run.execution, seed, after_epoch, deadline)
        _write_results(run, data, state, fold_data, folder)
        (folder / CHECKPOINT).unlink()


def _fold_data(run: Run, data: TensorCache, number: int, device: torch.device) -> FoldData:
    valid = read_folds(run.folder / FOLDS, data.train.ids) == number
    return FoldData(
        images=data.train.images.to(device),
        labels=data.train.known_labels().to(device),
        train=torch.from_numpy(np.flatnonzero(~valid)).to(device),
        valid=torch.from_numpy(np.flatnonzero(valid)).to(device),
        mirror=run.mirror,
    )


def _start(run: Run, data: FoldData, seed: int) -> TrainingState:
    torch.manual_seed(derive_seed(seed, "initialise"))
    mean, std = channel_statistics(data.images[data.train])
    model = run.network.build(mean, std).to(data.images.device)
    return start_training(model, data, run.recipe, run.execution)


def _write_metrics(path: Path, history: list[EpochMetrics]) -> None:
    lines = "".join(json.dumps(asdict(metrics)) + "\n" for metrics in history)
    write_whole(path, lines.encode())


def _write_results(
    run: Run, data: TensorCache, state: TrainingState, fold_data: FoldData, folder: Path
) -> None:
    weights = {name: value.contiguous() for name, value in state.model.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    probabilities = predict_probabilities(
        state.model, fold_data.images, fold_data.valid, run.mirror, run.execution
    )
    ids = [data.train.ids[row] for row in fold_data.valid.tolist()]
    write_probabilities(folder / OUT_OF_FOLD, probability_table(ids, probabilities, data.classes))
