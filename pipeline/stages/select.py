"""select: propose the two final submissions among the uploads, and mark them in the ledger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.artifacts import read_json
from pipeline.client.ledger import Ledger, Upload
from pipeline.client.selection import Selection
from pipeline.competition import Competition
from pipeline.errors import ConfigError
from pipeline.metrics import lower_is_better
from pipeline.refine.choosing import Entry, agreement, choose_two
from pipeline.stages.chain import prepared
from pipeline.stages.console import say, say_table
from pipeline.stages.hosts import choose_host
from pipeline.stages.predict import PREDICTIONS
from pipeline.stages.settings import Settings, check_settings
from pipeline.training.run import RECORD
from pipeline.training.tables import read_probabilities
from pipeline.workspace import Workspace


def select(settings: Settings) -> list[Upload]:
    """Choose among the competition's uploads to the host, say why, and mark them.

    Raises:
        ConfigError: nothing was uploaded to that host that could be chosen.
        PipelineError: the competition cannot be had, or a file is damaged.
    """
    check_settings(settings)
    with prepared(settings) as (competition, _, _):
        workspace, instance = settings.workspace, choose_host(settings.host).instance
        uploads = _candidates(workspace, competition, instance)
        entries = _entries(workspace, competition, uploads)
        chosen = choose_two(entries)
        say("select", f"{competition.metric}: {agreement(entries)}")
        rows = [
            (str(number), _shown(uploads[choice.place]), choice.reason)
            for number, choice in enumerate(chosen, start=1)
        ]
        say_table("select", rows)
        Selection(workspace.selection).choose([uploads[choice.place] for choice in chosen])
    if len(chosen) == 1:
        say("select", "there is no other upload to choose a second one from")
    say("select", "marked in the ledger; choose the same on the competition's page of submissions")
    return [uploads[choice.place] for choice in chosen]


def _candidates(
    workspace: Workspace, competition: Competition, instance: str | None
) -> list[Upload]:
    """The uploads to the host that it could score, the same predictions once.

    Raises:
        ConfigError: there are none.
    """
    all_uploads = [
        upload
        for upload in Ledger(workspace.ledger).uploads()
        if (upload.competition, upload.instance) == (competition.slug, instance)
    ]
    scored = [upload for upload in all_uploads if upload.status == "COMPLETE"]
    comparable = [upload for upload in scored if _is_comparable(workspace, competition, upload)]
    last = {upload.predictions_sha256: upload for upload in comparable}
    reasons = {
        "without a score": len(all_uploads) - len(scored),
        "cross-validated with another metric, or not at all": len(scored) - len(comparable),
        "of the same predictions": len(comparable) - len(last),
    }
    left_out = ", ".join(f"{count} {why}" for why, count in reasons.items() if count)
    if left_out:
        say("select", f"of {len(all_uploads)} uploads left out: {left_out}")
    if not last:
        raise ConfigError(
            f"{competition.slug!r} has no scored upload to choose from in {workspace.ledger}; make "
            "submit comes first"
        )
    return list(last.values())


def _is_comparable(workspace: Workspace, competition: Competition, upload: Upload) -> bool:
    """Whether its cross-validation score is of the competition's metric, as far as can be told."""
    record = workspace.runs(competition.slug) / upload.run / RECORD
    if upload.cv_mean is None or not record.exists():
        return upload.cv_mean is not None
    return bool(read_json(record).get("cv", {}).get("metric") == competition.metric)


def _entries(
    workspace: Workspace, competition: Competition, uploads: Sequence[Upload]
) -> list[Entry]:
    sign = -1 if lower_is_better(competition.metric or "accuracy") else 1
    return [
        Entry(
            name=upload.run,
            cv=sign * (upload.cv_mean or 0.0),
            cv_error=_error(workspace, upload),
            public=None if upload.public_score is None else sign * upload.public_score,
            predictions=_predictions(workspace, upload),
        )
        for upload in uploads
    ]


def _error(workspace: Workspace, upload: Upload) -> float:
    """The standard error of the cross-validation score; of a run that is gone, of two folds."""
    record = workspace.runs(upload.competition) / upload.run / RECORD
    folds = len(read_json(record)["cv"]["folds"]) if record.exists() else 2
    return (upload.cv_std or 0.0) / float(np.sqrt(folds))


def _predictions(workspace: Workspace, upload: Upload) -> pd.DataFrame | None:
    """The run's test predictions, if they are still there."""
    path = workspace.runs(upload.competition) / upload.run / PREDICTIONS
    if not path.exists():
        say("select", f"{upload.run}: {path} is gone, so its predictions cannot be compared")
        return None
    return read_probabilities(path)


def _shown(upload: Upload) -> str:
    public = "not told" if upload.public_score is None else f"{upload.public_score:.4f}"
    cv = f"CV {upload.cv_mean:.4f} ± {upload.cv_std:.4f}"
    return f"submission {upload.ref} {upload.run} ({cv}, public {public})"
