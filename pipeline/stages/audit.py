"""audit: what an expert looks at before trusting a competition's data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.artifacts import whole_folder, write_json, write_whole
from pipeline.audit.duplicates import Duplicates, find_duplicates
from pipeline.audit.findings import duplicate_findings, shift_findings, suspect_findings
from pipeline.audit.headlines import headlines, next_steps
from pipeline.audit.inventory import class_counts, file_sizes, plain_images
from pipeline.audit.report import render_report
from pipeline.audit.shift import train_test_shift
from pipeline.audit.suspects import label_suspects
from pipeline.competition import Competition, load_competition
from pipeline.data.cache import TensorCache, load_cache
from pipeline.data.layouts import read_layout
from pipeline.errors import ConfigError, DataError
from pipeline.metrics import lower_is_better
from pipeline.stages.chain import prepared
from pipeline.stages.console import say, say_table
from pipeline.stages.fold_map import shared_fold_map
from pipeline.stages.settings import Settings, check_settings
from pipeline.training.folds import read_folds
from pipeline.training.run import FOLDS, OUT_OF_FOLD, RECORD, Run
from pipeline.training.tables import read_probabilities

FOLDER, REPORT, FINDINGS = "audit", "report.html", "audit.json"


def audit(settings: Settings, *, group: bool) -> None:
    """Write submissions/<competition>/audit/: report.html and audit.json; print the main figures.

    Args:
        settings: the competition, the run whose predictions check the labels (none: the best one),
            and the folds where there is no run.
        group: write data/<competition>/duplicates.csv, by which new folds keep copies together.

    Raises:
        PipelineError: the competition cannot be had, or there is no such finished run.
    """
    check_settings(settings)
    with prepared(settings) as (competition, cache, _):
        data = load_cache(cache)
        chosen = _choose_run(settings, competition, data)
        suspects = _suspects(data, chosen)  # refuses a run at once, not after the long search
        copies = find_duplicates(data, mirror=bool(competition.data.mirror))
        if group:  # ahead of the folds that go by it, and in place of a list of other images
            _write_groups(settings, data, copies)
        findings = _findings(settings, competition, cache, data, copies, chosen, suspects)
        grouped = settings.workspace.duplicates(competition.slug).exists()
        steps = next_steps(findings, grouped)
        folder = settings.workspace.runs(competition.slug) / FOLDER
        with whole_folder(folder) as partial:
            write_json(partial / FINDINGS, findings)
            write_whole(partial / REPORT, render_report(findings, steps, data).encode())
    say_table("audit", headlines(findings))
    say("audit", f"written: {folder / REPORT} and {FINDINGS}")
    for step in steps:
        say("audit", f"next: {step}")


def _findings(
    settings: Settings,
    competition: Competition,
    cache: Path,
    data: TensorCache,
    copies: Duplicates,
    run: Run | None,
    suspects: dict[str, Any],
) -> dict[str, Any]:
    folds, folds_text = _folds(settings, competition, data, run)
    side = " x ".join(str(size) for size in data.train.images.shape[1:])
    return {
        "competition": competition.slug,
        "cache": cache.name,
        "images": {"train": len(data.train.ids), "test": len(data.test.ids), "form": side},
        "classes": class_counts(data.train, data.classes),
        "duplicates": {
            **duplicate_findings(data, copies, folds),
            "folds": folds_text,
            "mirror": bool(competition.data.mirror),
        },
        "shift": _shift(settings, data),
        "suspects": suspects,
        "plain": plain_images(data),
        "files": _files(settings),
    }


def _choose_run(settings: Settings, competition: Competition, data: TensorCache) -> Run | None:
    """The finished run that is named, or that of these images with the best score, if any."""
    folder, name = settings.workspace.runs(competition.slug), settings.run
    records = sorted(folder.glob(f"*/{RECORD}"))
    runs = [run for run in map(Run.open, (path.parent for path in records)) if _is_finished(run)]
    if name:
        for run in runs:
            if run.folder.name == name:
                return run
        known = ", ".join(run.folder.name for run in runs) or "there is none yet: make train"
        raise ConfigError(f"RUN={name!r} is no finished run in {folder}; choose from {known}")
    metric = competition.metric or "accuracy"
    scored = [run for run in runs if run.record["cv"]["metric"] == metric]
    sign = 1 if lower_is_better(metric) else -1
    best_first = sorted(scored, key=lambda run: sign * run.record["cv"]["mean"])
    return next((run for run in best_first if _is_of(run, data)), None)


def _is_finished(run: Run) -> bool:
    return "cv" in run.record and (run.folder / OUT_OF_FOLD).exists()


def _is_of(run: Run, data: TensorCache) -> bool:
    """Whether the run was cross-validated on these training images and classes, in any size."""
    table = read_probabilities(run.folder / OUT_OF_FOLD)
    return (tuple(table.columns), {*table.index}) == (data.classes, {*data.train.ids})


def _folds(
    settings: Settings, competition: Competition, data: TensorCache, run: Run | None
) -> tuple[NDArray[np.int64] | None, str]:
    """The fold [N] of each training image, and where it is from: the run, or what train uses."""
    if run is not None:
        return read_folds(run.folder / FOLDS, data.train.ids), f"those of run {run.folder.name}"
    try:
        path = shared_fold_map(settings, competition, data.train)
    except ConfigError as err:  # a competition that cannot be trained yet can be looked at
        return None, f"none ({err})"
    return read_folds(path, data.train.ids), f"those of {path.name}"


def _shift(settings: Settings, data: TensorCache) -> dict[str, Any]:
    try:
        return shift_findings(train_test_shift(data.train.images, data.test.images, settings.seed))
    except DataError as err:
        return {"auc": None, "reason": str(err)}


def _suspects(data: TensorCache, run: Run | None) -> dict[str, Any]:
    if run is None:
        reason = "no finished run of these images: make train, then make audit again"
        return {"run": None, "reason": reason, "count": 0, "confident": 0, "ranked": []}
    probabilities, labels = _out_of_fold(run, data), data.train.known_labels().numpy()
    table = label_suspects(labels, probabilities)
    return {
        "run": run.folder.name,
        "cv": run.record["cv"],
        "labels": labels.size,
        "count": len(table),
        "confident": int(table["confident"].sum()),
        "ranked": suspect_findings(table, data),
    }


def _out_of_fold(run: Run, data: TensorCache) -> NDArray[np.float64]:
    """The run's probabilities [N, classes] in the order of the training images."""
    path = run.folder / OUT_OF_FOLD
    table = read_probabilities(path)
    if list(table.columns) != list(data.classes):
        raise DataError(f"{path} has other classes than the competition; choose another RUN")
    missing = [name for name in data.train.ids if name not in table.index]
    if missing or len(table) != len(data.train.ids):
        raise DataError(
            f"{path} holds {len(table)} images, and {len(missing)} of the {len(data.train.ids)} "
            f"training images are not in it, first {next(iter(missing), 'none')!r}; choose "
            "another RUN, or train again"
        )
    return table.loc[data.train.ids].to_numpy()


def _files(settings: Settings) -> dict[str, Any]:
    workspace, slug = settings.workspace, settings.competition
    raw = read_layout(workspace.raw(slug), load_competition(slug, workspace.competition(slug)))
    return file_sizes(raw.train, raw.test)


def _write_groups(settings: Settings, data: TensorCache, copies: Duplicates) -> None:
    """Note which training images are copies of each other; where none are, nothing is left."""
    path = settings.workspace.duplicates(settings.competition)
    rows = [
        (data.train.ids[row], f"copies{number}")
        for number, cluster in enumerate(copies.clusters)
        for row in _training_rows(cluster.rows, len(data.train.ids))
    ]
    if not rows:
        path.unlink(missing_ok=True)
        say("audit", f"no training image has a copy: {path} is not needed")
        return
    table = pd.DataFrame(rows, columns=["id", "group"])
    write_whole(path, table.to_csv(index=False).encode())
    say("audit", f"written: {path}; new folds keep these {len(rows)} images' copies together")


def _training_rows(rows: list[int], count: int) -> list[int]:
    """The training images of a cluster, where it has at least two."""
    training = [row for row in rows if row < count]
    return training if len(training) > 1 else []
