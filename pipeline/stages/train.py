"""train: k folds of one configuration into a run folder."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from pipeline.artifacts import (
    content_key,
    is_complete,
    read_json,
    sha256_of,
    whole_folder,
    write_json,
    write_whole,
)
from pipeline.competition import Competition
from pipeline.data.cache import Part, TensorCache, load_cache
from pipeline.errors import DataError
from pipeline.stages.console import say
from pipeline.stages.provenance import provenance
from pipeline.stages.settings import Settings
from pipeline.training.fold import (
    OUT_OF_FOLD,
    Network,
    probability_table,
    read_probabilities,
    run_fold,
    write_probabilities,
)
from pipeline.training.folds import assign_folds, read_folds, write_folds
from pipeline.training.loop import EpochMetrics, FoldData
from pipeline.training.metrics import score
from pipeline.training.precision import Execution, choose_execution
from pipeline.training.recipes import Recipe, make_recipe
from pipeline.training.seeds import derive_seed

ENGINE_VERSION = 1  # raise it when the same configuration would train to other weights
RUN = "run.json"
FOLDS = "folds.csv"


def train(settings: Settings, competition: Competition, cache: Path) -> Path:
    """The run folder of the settings, with every fold trained; what is there is kept.

    Raises:
        ConfigError: the folds do not fit the data.
    """
    data = load_cache(cache)
    fold_map = _fold_map(settings, competition, data.train)
    run = _start_run(settings, competition, cache, data, fold_map)
    record: dict[str, Any] = read_json(run / RUN)
    if "cv" in record:
        say("train", f"up to date: {run} ({_cv_text(record['cv'])})")
        return run
    fold = read_folds(run / FOLDS, data.train.ids)
    started = time.monotonic()
    _train_folds(run, record, competition, data, fold)
    tables = [read_probabilities(fold_folder(run, k) / OUT_OF_FOLD) for k in range(settings.folds)]
    record["cv"] = _cross_validate(competition, data, tables)
    record["seconds"] = {"train": round(time.monotonic() - started, 1)}
    write_probabilities(run / OUT_OF_FOLD, pd.concat(tables).loc[data.train.ids])
    write_json(run / RUN, record)
    say("train", f"done: {run} ({_cv_text(record['cv'])})")
    return run


def fold_folder(run: Path, number: int) -> Path:
    """Where a run keeps one fold."""
    return run / f"fold{number}"


def run_network(record: dict[str, Any]) -> Network:
    """The network that a run.json describes."""
    return Network(**record["network"])


def run_execution(record: dict[str, Any]) -> Execution:
    """The decisions that a run.json stores."""
    return Execution(**record["execution"])


def _fold_map(settings: Settings, competition: Competition, part: Part) -> Path:
    """The saved fold map of these images; every run with the same folds and seed shares it."""
    labels = _labels(part)
    made_from = [part.ids, labels, part.groups]
    name = f"{settings.folds}-seed{settings.seed}-{content_key(made_from, 8)}.csv"
    path = settings.workspace.folds(competition.slug) / name
    if not path.exists():
        fold = assign_folds(labels, part.groups, settings.folds, settings.seed)
        write_folds(path, part.ids, fold)
    return path


def _labels(part: Part) -> list[int]:
    if part.labels is None:
        raise DataError("the training images have no labels; delete the cache folder and rerun")
    return [int(label) for label in part.labels]


def _start_run(
    settings: Settings, competition: Competition, cache: Path, data: TensorCache, fold_map: Path
) -> Path:
    """Make the run folder with what identifies it; an existing one is continued."""
    recipe = make_recipe(settings.recipe)
    network = Network(
        model=settings.model,
        conv=settings.conv,
        channels=data.train.images.shape[-1],
        classes=len(data.classes),
        dropout=recipe.dropout,
    )
    identity = {
        "competition": competition.as_dict(),
        "cache": cache.name,
        "folds": {"count": settings.folds, "sha256": sha256_of(fold_map)},
        "seed": settings.seed,
        "network": asdict(network),
        "recipe": {"name": settings.recipe, **asdict(recipe)},
        "engine_version": ENGINE_VERSION,
    }
    name = f"{settings.conv}-{content_key(identity, 8)}"
    run = settings.workspace.runs(competition.slug) / name
    if not (run / RUN).exists():
        write_whole(run / FOLDS, fold_map.read_bytes())
        made_by = {"created_at": datetime.now(UTC).isoformat(timespec="seconds"), **provenance()}
        decided = {"execution": asdict(choose_execution())}
        write_json(run / RUN, {"run": name, **identity, **decided, **made_by})
    return run


def _train_folds(
    run: Path,
    record: dict[str, Any],
    competition: Competition,
    data: TensorCache,
    fold: np.ndarray,
) -> None:
    recipe = Recipe(**{k: v for k, v in record["recipe"].items() if k != "name"})
    execution, network = run_execution(record), run_network(record)
    device = torch.device(execution.device)
    images, labels = data.train.images.to(device), torch.tensor(_labels(data.train)).to(device)
    count = record["folds"]["count"]
    say("train", f"{run.name}: {execution.device} {execution.precision} ({execution.reason})")
    with tqdm(total=count * recipe.epochs, unit="epoch", dynamic_ncols=True) as bar:
        for number in range(count):
            folder = fold_folder(run, number)
            if is_complete(folder):
                bar.update(recipe.epochs)
                continue
            valid = fold == number
            fold_data = FoldData(
                images=images,
                labels=labels,
                train=torch.from_numpy(np.flatnonzero(~valid)).to(device),
                valid=torch.from_numpy(np.flatnonzero(valid)).to(device),
                mirror=competition.data.mirror,
            )
            with whole_folder(folder) as unfinished:
                probabilities = run_fold(
                    unfinished,
                    network,
                    fold_data,
                    recipe,
                    execution,
                    derive_seed(record["seed"], number),
                    partial(_show, bar, number),
                )
                ids = [data.train.ids[row] for row in np.flatnonzero(valid)]
                table = probability_table(ids, probabilities, data.classes)
                write_probabilities(unfinished / OUT_OF_FOLD, table)


def _show(bar: Any, number: int, metrics: EpochMetrics) -> None:
    bar.set_description(f"fold {number}", refresh=False)
    bar.set_postfix(
        train=f"{metrics.train_loss:.3f}",
        valid=f"{metrics.valid_loss:.3f}",
        accuracy=f"{metrics.valid_accuracy:.4f}",
        refresh=False,
    )
    bar.update()


def _cross_validate(
    competition: Competition, data: TensorCache, tables: list[pd.DataFrame]
) -> dict[str, Any]:
    """Each fold's score on its out-of-fold predictions, their mean and standard deviation."""
    metric = competition.metric or "accuracy"
    label_of = pd.Series(_labels(data.train), index=data.train.ids)
    scores = [
        score(metric, label_of.loc[table.index].to_numpy(), table.to_numpy()) for table in tables
    ]
    return {
        "metric": metric,
        "mean": float(np.mean(scores)),
        "std": float(np.std(scores, ddof=1)),
        "folds": scores,
    }


def _cv_text(cv: dict[str, Any]) -> str:
    return f"CV {cv['metric']} {cv['mean']:.4f} ± {cv['std']:.4f} over {len(cv['folds'])} folds"
