"""Derived runs: run folders like any other, made of the predictions of runs that are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts import (
    content_key,
    is_complete,
    read_json,
    whole_folder,
    write_json,
    write_whole,
)
from pipeline.competition import Competition
from pipeline.data.cache import TensorCache
from pipeline.errors import DataError
from pipeline.metrics.decisions import Probabilities
from pipeline.refine.blending import Blend
from pipeline.refine.deciding import Deciding
from pipeline.refine.gain import Gain, gain_of
from pipeline.refine.refinement import (
    Fitted,
    Nested,
    Problem,
    Refinement,
    Refitted,
    Source,
    Stored,
    nested,
)
from pipeline.refine.temperature import Temperature
from pipeline.stages.members import REFINE_VERSION, Member, open_member, predict_missing
from pipeline.stages.predict import PREDICTIONS
from pipeline.stages.provenance import provenance
from pipeline.stages.train import cross_validation
from pipeline.training.folds import write_folds
from pipeline.training.run import FOLDS, MADE_FROM, OUT_OF_FOLD, RECORD
from pipeline.training.tables import probability_table, write_probabilities
from pipeline.workspace import Workspace

_KINDS: dict[str, type[Refinement]] = {
    "temperature": Temperature,
    "thresholds": Deciding,
    "blend": Blend,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """A derived run's folder and its run.json; `is_new` unless it was there already."""

    folder: Path
    record: dict[str, Any]
    is_new: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Fresh:
    """A refinement as it was just computed; `best` is the place of the best member alone.

    `cv` are the nested scores as a run's record holds them.
    """

    problem: Problem
    members: Sequence[Member]
    fitted: Fitted
    nested: Nested
    cv: dict[str, Any]
    gain: Gain
    best: int


Plots = Callable[[Fresh], dict[str, bytes]]
"""PNGs by file name, to be put beside the record."""


def derive(
    workspace: Workspace,
    competition: Competition,
    cache: Path,
    members: Sequence[Member],
    refinement: Refinement,
    plots: Plots,
) -> Derived:
    """The run that the refinement makes of the members; what is there is kept.

    Its oof.csv holds what parameters fitted on the other folds make of each fold, and its cv their
    scores. What it makes of the test images comes from parameters fitted on all folds.

    Raises:
        ConfigError: the metric is undefined on a fold, or what a member was made from is gone.
    """
    data = members[0].data
    identity = _identity(competition, cache, members, refinement)
    name = f"{refinement.kind}-{content_key(identity, 8)}"
    folder = workspace.runs(competition.slug) / name
    if is_complete(folder):
        return Derived(folder=folder, record=read_json(folder / RECORD), is_new=False)
    fresh = _compute(workspace, competition, members, refinement)
    record = {
        "run": name,
        **identity,
        "multi_label": data.multi_label,
        "parameters": fresh.fitted.parameters,
        **_decision(fresh.fitted),
        "cv": fresh.cv,
        "gain": {"over": members[fresh.best].name, **fresh.gain.as_dict()},
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **provenance(),
    }
    _write(folder, record, data, fresh, plots(fresh))
    return Derived(folder=folder, record=record, is_new=True)


def _identity(
    competition: Competition, cache: Path, members: Sequence[Member], refinement: Refinement
) -> dict[str, Any]:
    """All that decides a derived run's numbers."""
    return {
        "competition": competition.slug,
        "cache": cache.name,
        "folds": members[0].record["folds"],
        "refinement": asdict(refinement),  # type: ignore[call-overload]
        "metric": competition.metric,
        MADE_FROM: [member.hashes() for member in members],
        "refine_version": REFINE_VERSION,
    }


def _compute(
    workspace: Workspace,
    competition: Competition,
    members: Sequence[Member],
    refinement: Refinement,
) -> Fresh:
    truth = members[0].data.train.known_labels().numpy()
    problem = Problem(competition.metric or "accuracy", truth, members[0].fold)
    sources = [_source(workspace, competition, member, problem) for member in members]
    tables = [member.out_of_fold for member in members]
    alone = [problem.answers(table) for table in tables]
    best = _best(problem, [float(np.mean(problem.scores(answers))) for answers in alone])
    result = nested(refinement, problem, sources)
    cv = cross_validation(problem.metric, result.scores)  # where it is undefined, so is the gain
    return Fresh(
        problem=problem,
        members=members,
        fitted=refinement.fit(problem, tables),
        nested=result,
        cv=cv,
        gain=gain_of(problem, result.answers, alone[best]),
        best=best,
    )


def _source(
    workspace: Workspace, competition: Competition, member: Member, problem: Problem
) -> Source:
    """The member's out-of-fold predictions; those of a derived one can be fitted anew."""
    if not member.is_derived:
        return Stored(member.out_of_fold)
    made_from = [
        open_member(workspace, competition, member.data, source["run"])
        for source in member.record[MADE_FROM]
    ]
    for made, source in zip(made_from, member.record[MADE_FROM], strict=True):
        predict_missing(workspace, made)
        if made.hashes() != source:
            raise DataError(
                f"{member.name} was made from other predictions than those that {made.name} has "
                f"now; delete {member.folder} and make it again"
            )
    choices = dict(member.record["refinement"])
    refinement = _KINDS[choices.pop("kind")](**choices)
    own = replace(problem, metric=member.record["metric"])  # its parameters are best for that one
    sources = [_source(workspace, competition, made, own) for made in made_from]
    return Refitted(member.out_of_fold, refinement, own, sources)


def _best(problem: Problem, scores: Sequence[float]) -> int:
    sign = 1 if problem.its_metric.greater_is_better else -1
    return max(range(len(scores)), key=lambda place: sign * scores[place])


def _decision(fitted: Fitted) -> dict[str, Any]:
    if fitted.decision is None:
        return {}
    return {"decision": {"kind": fitted.decision.kind, "values": list(fitted.decision.values)}}


def _write(
    folder: Path, record: dict[str, Any], data: TensorCache, fresh: Fresh, plots: dict[str, bytes]
) -> None:
    test = fresh.fitted.apply([member.test for member in fresh.members])
    with whole_folder(folder) as partial:
        write_folds(partial / FOLDS, data.train.ids, fresh.problem.fold)
        _write_table(partial / OUT_OF_FOLD, data.train.ids, fresh.nested.probabilities, data)
        _write_table(partial / PREDICTIONS, data.test.ids, test, data)
        for name, image in plots.items():
            write_whole(partial / name, image)
        write_json(partial / RECORD, record)


def _write_table(
    path: Path, ids: Sequence[str], probabilities: Probabilities, data: TensorCache
) -> None:
    write_probabilities(path, probability_table(ids, probabilities, data.classes))
