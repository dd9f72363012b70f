"""What a study needs of a competition: its images, and the score of what was predicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pipeline.artifacts import write_json
from pipeline.client.ledger import Ledger, Upload
from pipeline.data.cache import load_cache
from pipeline.errors import HostError
from pipeline.metrics import score
from pipeline.stages.chain import prepared, run_until
from pipeline.stages.predict import PREDICTIONS
from pipeline.stages.preprocess import submission_form
from pipeline.stages.provenance import provenance
from pipeline.stages.settings import Settings
from pipeline.stages.submission import submission
from pipeline.stages.submit import submit
from pipeline.studies.cells import Bench, Cell, Outcome
from pipeline.studies.fitting import Fit
from pipeline.training.batches import FoldData
from pipeline.training.execution import choose_execution
from pipeline.training.folds import assign_folds
from pipeline.training.placement import near
from pipeline.training.run import RECORD, Run
from pipeline.training.tables import probability_table, write_probabilities

FOLDS = 5


def competition_settings(bench: Bench) -> Settings:
    """The rebuilt competition or, where work is kept small, one that needs no network."""
    name = bench.pick(smoke="digits", cpu="dog-vs-cat-vs-bird", gpu="dog-vs-cat-vs-bird")
    return replace(bench.settings, competition=name)


def competition_fold(bench: Bench, *, mirror: bool = True) -> FoldData:
    """The first of five folds, on the device; seen mirrored where the competition allows it."""
    with prepared(competition_settings(bench)) as (competition, cache, _):
        data = load_cache(cache)
    device = torch.device(choose_execution().device)
    labels = data.train.known_labels()
    numbers = assign_folds(labels.numpy(), data.train.groups, FOLDS, 0)
    images = near(data.train.images, device)
    return FoldData(
        images=images,
        labels=labels.to(device),
        train=torch.from_numpy(np.flatnonzero(numbers != 0)).to(images.device),
        valid=torch.from_numpy(np.flatnonzero(numbers == 0)).to(images.device),
        classes=len(data.classes),
        mirror=mirror and competition.data.mirror is not False,
    )


def score_of_fit(bench: Bench, cell: Cell, found: Fit) -> dict[str, float]:
    """Validate the one network, predict the competition's test images with it, and submit that."""
    settings = competition_settings(bench)
    folder = bench.scratch / cell.study / bench.scale / cell.name
    data = found.data
    with prepared(settings) as (competition, cache, host):
        valid = found.probabilities(data.images, data.valid)
        truth = data.labels[data.valid].cpu().numpy()
        accuracy = score("accuracy", truth, valid.numpy())
        cached = load_cache(cache)
        images = near(cached.test.images, data.labels.device)
        probabilities = found.probabilities(images, torch.arange(len(images)).to(images.device))
        write_probabilities(
            folder / PREDICTIONS,
            probability_table(cached.test.ids, probabilities, cached.classes),
        )
        of_fold = {"metric": "accuracy", "mean": accuracy, "std": 0.0, "folds": [accuracy]}
        write_json(folder / RECORD, {"run": f"study-{cell.name}", "cv": of_fold, **provenance()})
        form = submission_form(settings.workspace, competition, cache)
        submission(folder, form)
        submit(settings.workspace, competition, form, folder, host)
    return {"cv_accuracy": accuracy, **_scores(settings, f"study-{cell.name}")}


def score_of_run(bench: Bench, conv: str, recipe: str, changes: str, seed: int) -> Outcome:
    """Every fold through every stage of the pipeline, up to the score."""
    settings = replace(
        competition_settings(bench),
        conv=conv,
        recipe=recipe,
        set=changes,
        seed=seed,
        folds=bench.pick(smoke=2, cpu=FOLDS, gpu=FOLDS),
    )
    folder = run_until("submit", replace(settings, budget=_left(bench)))
    assert folder is not None
    run = Run.open(folder)
    cv = run.record["cv"]
    figures = {"cv_accuracy": cv["mean"], "cv_std": cv["std"]}
    seconds = float(run.record["seconds"]["train"])
    setup = {key: run.record[key] for key in ("recipe", "network", "folds", "execution")}
    return Outcome(
        figures={**figures, **_scores(settings, folder.name), "train_seconds": seconds},
        curves={"folds": cv["folds"]},
        setup=setup,
    )


def _left(bench: Bench) -> str:
    seconds = bench.deadline.seconds_left
    return "" if seconds == float("inf") else f"{max(0, int(seconds))}s"


def _scores(settings: Settings, run: str) -> dict[str, float]:
    """Public and private score of a run's last upload.

    Raises:
        HostError: the ledger has no scored upload of it.
    """
    upload = _last_upload(settings.workspace.ledger, settings.competition, run)
    found = {"public": upload.public_score, "private": upload.private_score}
    return {name: value for name, value in found.items() if value is not None}


def _last_upload(ledger: Path, competition: str, run: str) -> Upload:
    of_run = [
        upload
        for upload in Ledger(ledger).uploads()
        if upload.competition == competition and upload.run == run
    ]
    if not of_run:
        raise HostError(
            f"{ledger} has no upload of {run}: the same predictions went up under another name; "
            "delete the ledger's line and rerun"
        )
    return of_run[-1]
