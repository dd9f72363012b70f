"""train: k folds of one configuration into a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm import tqdm

from pipeline.artifacts import (
    content_key,
    sha256_of,
    storage_errors,
    verify_manifest,
    write_json,
    write_whole,
)
from pipeline.competition import Competition
from pipeline.data.cache import TensorCache, load_cache
from pipeline.errors import ConfigError
from pipeline.metrics import score
from pipeline.models import check_images
from pipeline.stages.console import say, say_table
from pipeline.stages.decisions import make_executable
from pipeline.stages.fold_map import planned_fold_map, shared_fold_map
from pipeline.stages.network import network_of
from pipeline.stages.predict import PREDICTIONS
from pipeline.stages.provenance import provenance
from pipeline.stages.settings import Settings, changes
from pipeline.stages.side_by_side import train_side_by_side
from pipeline.stages.starting_weights import StartingWeights
from pipeline.training.augment import shrink
from pipeline.training.deadline import Deadline, parse_budget
from pipeline.training.fold_process import Task
from pipeline.training.launch import Launcher, devices_for, train_on_devices
from pipeline.training.recipes import Recipe, make_recipe
from pipeline.training.run import FOLDS, OUT_OF_FOLD, RECORD, Network, Run
from pipeline.training.state import EpochMetrics
from pipeline.training.tables import read_probabilities, write_probabilities

# Raise it when the same configuration would train to other weights or predict other numbers.
ENGINE_VERSION = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """Where a run of some settings lies, what identifies it, and the weights it starts from."""

    folder: Path
    identity: dict[str, Any]
    weights: StartingWeights | None


def train(
    settings: Settings,
    competition: Competition,
    cache: Path,
    *,
    deadline: Deadline | None = None,
    launch: Launcher = train_on_devices,
) -> Path:
    """The run folder of the settings, with every fold trained; see `train_all`."""
    return train_all([settings], competition, cache, deadline=deadline, launch=launch)[0].folder


def train_all(
    variants: Sequence[Settings],
    competition: Competition,
    cache: Path,
    *,
    deadline: Deadline | None = None,
    launch: Launcher = train_on_devices,
) -> list[Run]:
    """The runs of the variants, with every fold trained; what is there is kept.

    Folds train until `deadline`, by default that of the first variant's budget.

    Raises:
        ConfigError: the folds or the network do not fit the data.
        BudgetError: the deadline came first; rerun to go on.
        PipelineError: a run failed; the others are trained.
    """
    data = load_cache(cache)
    deadline = deadline or Deadline.after(parse_budget(variants[0].budget))
    runs = [open_run(settings, competition, cache, data) for settings in variants]
    train_runs(runs, competition, cache, deadline, launch)
    return runs


def train_runs(
    runs: Sequence[Run], competition: Competition, cache: Path, deadline: Deadline, launch: Launcher
) -> None:
    """Train every fold that the opened runs lack, and score each run that is complete with it.

    Raises:
        BudgetError: the deadline came first; rerun to go on.
        PipelineError: a run failed; the others are trained, see `train_side_by_side`.
    """
    data = load_cache(cache)
    unfinished = [run for run in runs if not is_trained(run, competition)]
    for run in runs:
        if run not in unfinished:
            say("train", f"up to date: {run.folder} ({cv_text(run.record['cv'])})")
    if unfinished:
        verify_manifest(cache)
    try:
        if lacking := [run for run in unfinished if run.missing_folds()]:
            for run in lacking:
                _remove_predictions(run)
            with _progress(lacking) as bar, deadline.heeding_signals():
                show = partial(_show, bar)
                train_side_by_side(lacking, cache, show, deadline, launch)
    finally:  # a run that is complete is scored, whatever the others met
        for run in unfinished:
            if not run.missing_folds():
                _finish(run, competition, data)
    if deadline.stopped_by:  # behind the last step: no later stage is to begin
        deadline.check()


def open_run(settings: Settings, competition: Competition, cache: Path, data: TensorCache) -> Run:
    """The run of these settings, made with what identifies it unless it exists."""
    folds = shared_fold_map(settings, competition, data.train)
    plan = plan_run(settings, competition, cache, data)
    folder, weights = plan.folder, plan.weights
    if not (folder / RECORD).exists():
        _check_network(settings, data.train.images)
    if not (folder / FOLDS).exists() or sha256_of(folder / FOLDS) != sha256_of(folds):
        write_whole(folder / FOLDS, folds.read_bytes())
    if not (folder / RECORD).exists():
        made_by = {"created_at": datetime.now(UTC).isoformat(timespec="seconds"), **provenance()}
        write_json(folder / RECORD, {"run": folder.name, **plan.identity, **made_by})
        if weights:
            given = plan.identity["network"]["mean"]
            like = "the weights were trained" if given else "the training images are"
            say("train", f"starts from {weights.path}, normalised as {like}")
    run = Run.open(folder)
    if weights:
        note_weights(run, weights.path)
    make_executable(run, data, settings.launch)
    return run


def note_weights(run: Run, file: Path) -> None:
    """Write down where the weights that the run starts from lie now; they may have been moved."""
    if run.weights_file != file:
        run.record["weights_file"] = str(file)
        write_json(run.folder / RECORD, run.record)


def plan_run(
    settings: Settings, competition: Competition, cache: Path, data: TensorCache
) -> RunPlan:
    """The run that `train` makes of these settings; nothing is written.

    Raises:
        ConfigError: the folds do not fit the data, or the weights are none.
        DataError: the fold map, the list of duplicates or the weights are damaged.
    """
    folds = planned_fold_map(settings, competition, data.train)
    recipe = make_recipe(settings.recipe, changes(settings)[0])
    network, weights = network_of(settings, recipe, data)
    identity = run_identity(settings, competition, cache, data, folds.sha256, network, recipe)
    name = f"{settings.conv}-{content_key(identity, 8)}"
    folder = settings.workspace.runs(competition.slug) / name
    return RunPlan(folder=folder, identity=identity, weights=weights)


def _check_network(settings: Settings, images: Tensor) -> None:
    """Make sure that the network takes the images at every size that the recipe shows them in."""
    recipe = make_recipe(settings.recipe, changes(settings)[0])
    smallest = recipe.side_for(0, min(images.shape[1:3]))
    for seen in (images[:1], shrink(images[:1], smallest)):
        _, height, width, channels = seen.shape
        check_images(settings.model, (channels, height, width))


def is_trained(run: Run, competition: Competition) -> bool:
    """Whether every fold is there, and scored by the competition's metric."""
    return (
        run.record.get("cv", {}).get("metric") == competition.metric
        and (run.folder / OUT_OF_FOLD).exists()
        and not run.missing_folds()
    )


def run_identity(
    settings: Settings,
    competition: Competition,
    cache: Path,
    data: TensorCache,
    folds_sha256: str,
    network: Network,
    recipe: Recipe,
) -> dict[str, Any]:
    """All that decides a run's numbers, apart from the machine."""
    _, asked = changes(settings)
    return {
        "competition": competition.slug,
        "cache": cache.name,
        "mirror": competition.data.mirror,
        "multi_label": data.multi_label,
        "folds": {"count": settings.folds, "sha256": folds_sha256},
        "seed": settings.seed,
        "network": asdict(network),
        "recipe": {"name": Path(settings.recipe).name, **asdict(recipe)},
        "asked": {**asked, "convolutions": settings.execution},
        "engine_version": ENGINE_VERSION,
        **({"metric": competition.metric or "accuracy"} if recipe.keep == "best" else {}),
    }


def _remove_predictions(run: Run) -> None:
    """They are of a fold that was trained before, such as one that was damaged since."""
    path = run.folder / PREDICTIONS
    with storage_errors(path):
        path.unlink(missing_ok=True)


def _finish(run: Run, competition: Competition, data: TensorCache) -> None:
    """Join the folds' predictions, score them, and mark the run as trained."""
    tables = [read_probabilities(run.fold(number) / OUT_OF_FOLD) for number in run.folds]
    run.record["cv"] = _cross_validate(competition, data, tables)
    run.record["seconds"] = {"train": round(sum(map(run.fold_seconds, run.folds)), 1)}
    write_probabilities(run.folder / OUT_OF_FOLD, pd.concat(tables).loc[data.train.ids])
    write_json(run.folder / RECORD, run.record)
    say("train", f"done: {run.folder} ({cv_text(run.record['cv'])})")


def _cross_validate(
    competition: Competition, data: TensorCache, tables: list[pd.DataFrame]
) -> dict[str, Any]:
    """Each fold's score on its out-of-fold predictions."""
    metric = competition.metric or "accuracy"
    labels = data.train.known_labels().numpy()
    row_of = pd.Series(range(len(labels)), index=data.train.ids)
    scores = [score(metric, labels[row_of.loc[table.index]], table.to_numpy()) for table in tables]
    return cross_validation(metric, scores)


def cross_validation(metric: str, scores: list[float]) -> dict[str, Any]:
    """The folds' scores with their mean and standard deviation, as a run's record holds them.

    Raises:
        ConfigError: the metric is undefined on a fold.
    """
    if not np.isfinite(scores).all():
        raise ConfigError(
            f"{metric} is undefined on {np.sum(~np.isfinite(scores))} of {len(scores)} folds, "
            f"first fold {int(np.argmin(np.isfinite(scores)))}: it may lack a class; "
            "choose another FOLDS, FOLD_SEED or group_column"
        )
    return {
        "metric": metric,
        "mean": float(np.mean(scores)),
        "std": float(np.std(scores, ddof=1)),
        "folds": scores,
    }


def cv_text(cv: dict[str, Any]) -> str:
    """The cross-validation score in words."""
    return f"CV {cv['metric']} {cv['mean']:.4f} ± {cv['std']:.4f} over {len(cv['folds'])} folds"


def _progress(runs: Sequence[Run]) -> Any:
    for run in runs:
        devices = ", ".join(str(device) for device in devices_for(run.execution))
        say("train", f"{run.folder.name} on {devices}")
        say_table("train", run.execution.table())
    total = sum(run.recipe.epochs * len(run.folds) for run in runs)
    missing = [run.recipe.epochs - run.epochs_done(n) for run in runs for n in run.missing_folds()]
    return tqdm(total=total, initial=total - sum(missing), unit="epoch", dynamic_ncols=True)


def _show(bar: Any, task: Task, metrics: EpochMetrics) -> None:
    bar.set_description(f"{task.run.folder.name} fold {task.number}", refresh=False)
    bar.set_postfix(
        train=f"{metrics.train_loss:.3f}",
        valid=f"{metrics.valid_loss:.3f}",
        accuracy=f"{metrics.valid_accuracy:.4f}",
        refresh=False,
    )
    bar.update()
