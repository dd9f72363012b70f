"""report: what a run is worth, on one page; or all runs of a competition on one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.artifacts import read_json, write_whole
from pipeline.client.ledger import Ledger, Upload
from pipeline.competition import load_competition
from pipeline.data.cache import load_cache
from pipeline.errors import ConfigError
from pipeline.metrics import lower_is_better
from pipeline.report.answers import class_scores, confident_mistakes, confusion
from pipeline.report.calibration import calibration
from pipeline.report.leaderboard import boards
from pipeline.report.page import render_run, render_runs
from pipeline.stages.again import command_again
from pipeline.stages.console import say
from pipeline.stages.hosts import check_slug
from pipeline.stages.members import Member, finished_record, is_finished
from pipeline.stages.preprocess import describe, planned_cache
from pipeline.stages.report_facts import (
    answered,
    environment_facts,
    epochs_of,
    fold_facts,
    folds_text,
    made_by,
    made_facts,
    memory_note,
    points,
    views_facts,
)
from pipeline.stages.settings import Settings, check_names
from pipeline.stages.train import cv_text, plan_run
from pipeline.training.run import RECORD, Run

REPORT = "report.html"
_DECISION_NOTE = (
    "Answers are by the rule in run.json, which was fitted on all folds, so these tables are a "
    "little better than the CV above, whose rules never saw the fold that they were scored on."
)
_RANKING_NOTE = "An answer is the most probable class."


def report(settings: Settings, *, every_run: bool = False) -> Path:
    """Write the page of the run that the settings name or make, or of all runs; nothing is trained.

    Raises:
        ConfigError: there is no such finished run, it is another competition's, a fold of it is
            missing, or the images that it was made from are not here.
        DataError: a file of the run, or the ledger, is damaged.
    """
    check_slug(settings.competition)
    folder = settings.workspace.runs(settings.competition)
    if every_run:
        page, path = render_runs(_facts_of_all(settings)), folder / REPORT
    else:
        check_names(settings)
        member = _member(settings)
        say("report", f"{member.folder} ({cv_text(member.record['cv'])})")
        page = render_run(_facts(settings, member), member.data.train.images)
        path = member.folder / REPORT
    write_whole(path, page.encode())
    say("report", f"written: {path}")
    return path


def _member(settings: Settings) -> Member:
    """The finished run, with the images that it was made from."""
    workspace, slug = settings.workspace, settings.competition
    name = settings.run or _planned_name(settings)
    folder, record = finished_record(workspace, slug, name)
    cache = workspace.caches(slug) / record["cache"]
    if not cache.is_dir():
        raise ConfigError(
            f"RUN={name!r} was made from the images in {cache}, which is not here; run "
            f"`make preprocess COMPETITION={slug}` with the files that it was trained on"
        )
    return Member(folder, record, load_cache(cache))


def _planned_name(settings: Settings) -> str:
    """The name of the run that `make train` makes of the settings."""
    workspace, slug = settings.workspace, settings.competition
    definition = load_competition(slug, workspace.competition(slug)).with_size(settings.size)
    cache = planned_cache(workspace, definition)
    if cache is None or not cache.is_dir():
        raise ConfigError(
            f"COMPETITION={slug!r} is not preprocessed, so these settings have no run yet; run "
            "`make train` first, or name a finished RUN"
        )
    competition = describe(workspace, definition, cache)
    plan = plan_run(settings, competition, cache, load_cache(cache))
    if not (plan.folder / RECORD).exists():
        raise ConfigError(
            f"these settings' run {plan.folder.name!r} is not trained; run `make train` with them "
            "first, or name a finished RUN (make status lists them)"
        )
    return plan.folder.name


def _facts(settings: Settings, member: Member) -> dict[str, Any]:
    workspace, record = settings.workspace, member.record
    epochs, uploads = epochs_of(member), _uploads(settings)
    views, views_note = views_facts(member, epochs)
    answers, metric = answered(member), record["cv"]["metric"]
    is_trained = not member.is_derived
    execution = Run(member.folder, record).execution if is_trained else None
    folds = fold_facts(epochs)
    return {
        "run": member.name,
        "competition": member.record["competition"],
        "title": _title(settings),
        "cv": record["cv"],
        "lower_is_better": lower_is_better(metric),
        "multi_label": answers.multi_label,
        "uploads": [upload for upload in uploads if upload.run == member.name],
        "made": made_facts(workspace, record),
        "command": command_again(workspace, record),
        "gain": record.get("gain"),
        "boards": boards(points(uploads, _records(settings), metric)),
        "epochs": epochs,
        "folds": folds,
        "seconds": record["seconds"]["train"] if is_trained else None,
        "memory_note": memory_note(folds, execution.device) if execution else "",
        "views": views,
        "views_note": views_note,
        "decision_note": _decision_note(record, metric),
        "confusion": confusion(answers),
        "classes": class_scores(answers),
        "calibration": calibration(answers.truth, answers.probabilities),
        "mistakes": confident_mistakes(answers),
        "decisions": execution.table() if execution else [],
        "environment": environment_facts(record),
    }


def _decision_note(record: dict[str, Any], metric: str) -> str:
    if "decision" in record:
        return _DECISION_NOTE
    return _RANKING_NOTE if "@" in metric else ""


def _facts_of_all(settings: Settings) -> dict[str, Any]:
    records, workspace = _records(settings), settings.workspace
    if not records:
        raise ConfigError(
            f"COMPETITION={settings.competition!r} has no finished run in "
            f"{workspace.runs(settings.competition)}; run `make train` first"
        )
    newest = max(records.values(), key=lambda record: str(record["created_at"]))
    shown = points(_uploads(settings), records, newest["cv"]["metric"])
    last = {point["run"]: point for point in shown}
    every = len(list(workspace.runs(settings.competition).glob(f"*/{RECORD}")))
    return {
        "competition": settings.competition,
        "title": _title(settings),
        "unfinished": every - len(records),
        "boards": boards(shown),
        "refined": any("gain" in record for record in records.values()),
        "runs": [
            {
                "name": name,
                "made_by": made_by(record),
                "cv": record["cv"],
                **{side: last.get(name, {}).get(side) for side in ("public", "private")},
                "gain": record.get("gain", {"mean": None, "noise": None}),
                "seed": record.get("seed"),
                "folds": folds_text(workspace, record),
                "seconds": record.get("seconds", {}).get("train"),
                "created_at": record["created_at"],
            }
            for name, record in sorted(records.items(), key=_better_first)
        ],
    }


def _better_first(named: tuple[str, dict[str, Any]]) -> tuple[str, float]:
    cv = named[1]["cv"]
    return cv["metric"], cv["mean"] * (1 if lower_is_better(cv["metric"]) else -1)


def _records(settings: Settings) -> dict[str, dict[str, Any]]:
    """The records of the competition's finished runs by name."""
    paths = sorted(settings.workspace.runs(settings.competition).glob(f"*/{RECORD}"))
    records = {path.parent: read_json(path) for path in paths}
    return {
        folder.name: record
        for folder, record in records.items()
        if record.get("competition") == settings.competition and is_finished(folder, record)
    }


def _uploads(settings: Settings) -> list[Upload]:
    """The competition's uploads."""
    uploads = Ledger(settings.workspace.ledger).uploads()
    return [upload for upload in uploads if upload.competition == settings.competition]


def _title(settings: Settings) -> str:
    folder = settings.workspace.competition(settings.competition)
    return load_competition(settings.competition, folder).title or settings.competition
