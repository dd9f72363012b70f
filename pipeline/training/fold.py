"""One fold of a run: trained, predicted and left as a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from pipeline.artifacts import resumable_folder, sha256_of, unfinished_folder, write_whole
from pipeline.convs import apply_executions
from pipeline.data.cache import TensorCache
from pipeline.models.classifier import channel_statistics
from pipeline.training import group
from pipeline.training.batches import FoldData
from pipeline.training.deadline import Deadline
from pipeline.training.folds import read_folds
from pipeline.training.loop import train_fold
from pipeline.training.placement import near
from pipeline.training.predict import predict_probabilities
from pipeline.training.pseudo import pseudo_hash, with_pseudo
from pipeline.training.run import CHECKPOINT, FOLDS, METRICS, OUT_OF_FOLD, WEIGHTS, Run
from pipeline.training.seeds import derive_seed
from pipeline.training.start import start_training
from pipeline.training.state import EpochMetrics, TrainingState
from pipeline.training.tables import probability_table, write_probabilities


def run_fold(
    run: Run,
    data: TensorCache,
    number: int,
    device: torch.device,
    on_epoch: Callable[[EpochMetrics], None],
    deadline: Deadline,
) -> None:
    """Train fold `number` into its folder, going on from its checkpoint if there is one.

    Of the processes that train a fold together, one writes; all begin at the same checkpoint.

    Raises:
        BudgetError: the deadline came first; the checkpoint stays.
        DataError: the checkpoint is damaged, or of another run, fold or version, or the fold's
            pseudo-labels are not as they were written.
        ConfigError: the loss is not a number any more, or the batch cannot be shared.
    """
    fold_data = _fold_data(run, data, number, device)
    if group.rank() > 0:
        _help(run, fold_data, number, deadline)
        return
    with resumable_folder(run.fold(number), CHECKPOINT) as folder:

        def save(state: TrainingState) -> None:
            state.save(folder / CHECKPOINT)
            _write_metrics(folder / METRICS, state)
            if state.step == 0:
                on_epoch(state.history[-1])

        state = _train(run, fold_data, number, folder, save, deadline)
        _write_metrics(folder / METRICS, state)  # a kill behind the last checkpoint left them short
        _write_results(run, data, state, fold_data, folder)


def _help(run: Run, data: FoldData, number: int, deadline: Deadline) -> None:
    """Train beside the process that writes."""

    def help_to_save(state: TrainingState) -> None:
        state.gathered()

    _train(run, data, number, unfinished_folder(run.fold(number)), help_to_save, deadline)


def _train(
    run: Run,
    data: FoldData,
    number: int,
    folder: Path,
    save: Callable[[TrainingState], None],
    deadline: Deadline,
) -> TrainingState:
    seed = derive_seed(run.seed, number)
    state = _start(run, data, seed, number)
    if (folder / CHECKPOINT).exists():
        state.resume(folder / CHECKPOINT)
    train_fold(state, data, run.recipe, run.execution, seed, save, deadline)
    return state


def _fold_data(run: Run, data: TensorCache, number: int, device: torch.device) -> FoldData:
    valid = read_folds(run.folder / FOLDS, data.train.ids) == number
    images = near(data.train.images, device)
    fold = FoldData(
        images=images,
        labels=data.train.known_labels().to(device),
        train=torch.from_numpy(np.flatnonzero(~valid)).to(images.device),
        valid=torch.from_numpy(np.flatnonzero(valid)).to(images.device),
        classes=len(data.classes),
        mirror=run.mirror,
    )
    return with_pseudo(fold, run, data, number)


def _start(run: Run, data: FoldData, seed: int, number: int) -> TrainingState:
    torch.manual_seed(derive_seed(seed, "initialise"))
    given = run.network.normalisation
    mean, std = given or channel_statistics(data.images, data.labelled)
    model = run.network.build(mean, std, run.weights_file).to(data.labels.device)
    apply_executions(model, dict(run.execution.convs))
    return start_training(
        model, data, run.recipe, run.execution, _identity(run, number), run.metric
    )


def _identity(run: Run, number: int) -> dict[str, Any]:
    """What a checkpoint belongs to."""
    pseudo = pseudo_hash(run, number)
    return {
        "run": run.record.get("run"),
        "engine_version": run.record.get("engine_version"),
        "folds": sha256_of(run.folder / FOLDS)[:12],
        "fold": number,
        **({"pseudo": pseudo[:12]} if pseudo else {}),
    }


def _write_metrics(path: Path, state: TrainingState) -> None:
    """An object per epoch; where the best is kept, its score, and whether it is kept so far."""
    lines = ""
    for metrics in state.history:
        values = {name: value for name, value in asdict(metrics).items() if value is not None}
        if state.best:
            values["kept"] = metrics.epoch == state.best.epoch
        lines += json.dumps(values) + "\n"
    write_whole(path, lines.encode())


def _write_results(
    run: Run, data: TensorCache, state: TrainingState, fold_data: FoldData, folder: Path
) -> None:
    model = state.trained()
    write_whole(folder / WEIGHTS, save(_apart(model.state_dict())))
    probabilities = predict_probabilities(
        model,
        fold_data.images,
        fold_data.valid,
        run.mirror,
        run.execution,
        max_shift=run.recipe.shift_for(fold_data.side),
        multi_label=run.multi_label,
    )
    ids = [data.train.ids[row] for row in fold_data.valid.tolist()]
    write_probabilities(folder / OUT_OF_FOLD, probability_table(ids, probabilities, data.classes))


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies: safetensors takes no two that share memory, as of a layer used twice."""
    whole = torch.contiguous_format
    return {name: value.clone(memory_format=whole) for name, value in tensors.items()}
