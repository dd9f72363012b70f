"""What the next `submit` of some settings would do, stage by stage; nothing is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.artifacts import is_complete, read_json
from pipeline.competition import Competition
from pipeline.data.cache import load_cache
from pipeline.data.submission import SubmissionForm, submission_csv
from pipeline.errors import PipelineError
from pipeline.host.lifecycle import available_competitions
from pipeline.metrics.decisions import decision_of
from pipeline.stages.chain import STAGES
from pipeline.stages.download import raw_state
from pipeline.stages.hosts import HostChoice, choose_host
from pipeline.stages.members import finished_record
from pipeline.stages.predict import PREDICTIONS
from pipeline.stages.preprocess import describe, submission_form
from pipeline.stages.settings import Settings
from pipeline.stages.submission import SUBMISSION
from pipeline.stages.submit import read_candidate, uploaded_as
from pipeline.stages.train import is_trained, plan_run
from pipeline.stages.upload_note import UploadNote
from pipeline.training.run import RECORD, Run
from pipeline.training.tables import read_probabilities

State = Literal["up to date", "to do", "later", "refused"]


@dataclass(frozen=True, slots=True)
class Step:
    """What a stage would do. `later`: what it does depends on the stages before it."""

    stage: str
    state: State
    text: str


def next_steps(settings: Settings, definition: Competition, cache: Path | None) -> list[Step]:
    """One step per stage of `submit`; `cache` is where it would be, None if that is not known."""
    steps: list[Step] = []
    try:
        for step in _steps(settings, definition, cache):
            steps.append(step)
            if step.state == "refused":
                break
    except PipelineError as err:
        steps.append(Step(STAGES[len(steps)], "refused", str(err)))
    refused = bool(steps) and steps[-1].state == "refused"
    text = f"not reached: {steps[-1].stage} fails" if refused else "depends on the stages before"
    return steps + [Step(stage, "later", text) for stage in STAGES[len(steps) :]]


def _steps(settings: Settings, definition: Competition, cache: Path | None) -> Iterator[Step]:
    workspace, slug = settings.workspace, settings.competition
    yield _download(settings)
    if cache is None or not is_complete(cache):
        text = "read files that are new or changed" if cache is None else f"build {cache}"
        yield Step("preprocess", "to do", text)
        return
    yield Step("preprocess", "up to date", str(cache))
    competition = describe(workspace, definition, cache)
    form = submission_form(workspace, competition, cache)
    folder, step = _train(settings, competition, cache)
    yield step
    if step.state == "to do":
        yield Step("predict", "to do", f"{len(form.ids)} test images, after training")
        return
    predicted = (folder / PREDICTIONS).exists()
    yield Step("predict", "up to date" if predicted else "to do", str(folder / PREDICTIONS))
    if not predicted:
        return
    step = _submission(folder, form)
    yield step
    if step.state == "up to date":
        host = raw_state(workspace.raw(slug), settings.host)[1]
        yield _submit(settings, folder, form, host)


def _download(settings: Settings) -> Step:
    raw = settings.workspace.raw(settings.competition)
    state, host = raw_state(raw, settings.host)
    if state == "own":
        return Step("download", "up to date", f"{raw} holds your own files")
    if state == "downloaded" and not is_complete(raw):
        text = f"{raw}: files are missing, or of another size than when they were downloaded"
        return Step("download", "refused", text)
    if state == "downloaded":
        return Step("download", "up to date", str(raw))
    choice = choose_host(host)
    if refusal := _not_offered(settings.competition, choice):
        return Step("download", "refused", refusal)
    where = _title(choice)
    replaced = ", replacing the files of another host" if state == "other host" else ""
    return Step("download", "to do", f"from {where} into {raw}{replaced}")


def _title(choice: HostChoice) -> str:
    return "kaggle.com" if choice.name == "kaggle" else "the local competition host"


def _not_offered(competition: str, choice: HostChoice) -> str | None:
    """Why the host cannot have the competition, as far as is known without asking it."""
    offered = available_competitions()
    if choice.name == "kaggle" or competition in offered:
        return None
    return f"{_title(choice)} has no competition {competition!r}; it has {', '.join(offered)}"


def _train(settings: Settings, competition: Competition, cache: Path) -> tuple[Path, Step]:
    if settings.run:
        folder, _ = finished_record(settings.workspace, competition.slug, settings.run)
        return folder, Step("train", "up to date", f"nothing: run {settings.run} is named")
    plan = plan_run(settings, competition, cache, load_cache(cache))
    name = plan.folder.name
    if not (plan.folder / RECORD).exists():
        return plan.folder, Step("train", "to do", f"{settings.folds} folds, new run {name}")
    run = Run.open(plan.folder)
    if is_trained(run, competition):
        return run.folder, Step("train", "up to date", f"run {name}")
    missing = run.missing_folds()
    if not missing:
        return run.folder, Step("train", "to do", f"score all {len(run.folds)} folds, run {name}")
    text = f"{len(missing)} of {len(run.folds)} folds missing, run {name}"
    return run.folder, Step("train", "to do", text + _begun(run, missing))


def _begun(run: Run, missing: list[int]) -> str:
    """Where stopped folds go on."""
    found = []
    for number in missing:
        if epochs := run.epochs_done(number):
            found.append(f"; fold {number} goes on after {epochs} of {run.recipe.epochs} epochs")
    return "".join(found)


def _submission(folder: Path, form: SubmissionForm) -> Step:
    path, predictions = folder / SUBMISSION, folder / PREDICTIONS
    if not path.exists():
        return Step("submission", "to do", f"write {path}")
    table = read_probabilities(predictions)
    record: dict[str, Any] = read_json(folder / RECORD)
    content = submission_csv(form, table, decision_of(record, list(table.columns)), predictions)
    if path.read_bytes() == content:
        return Step("submission", "up to date", str(path))
    return Step("submission", "to do", f"write {path} anew: it says something else")


def _submit(settings: Settings, folder: Path, form: SubmissionForm, host: str) -> Step:
    workspace, choice = settings.workspace, choose_host(host)
    where = _title(choice)
    candidate = read_candidate(settings.competition, folder, form)
    earlier = uploaded_as(workspace, candidate, choice.instance)
    if earlier is None or settings.force:
        if refusal := _not_offered(settings.competition, choice):
            return Step("submit", "refused", refusal)
        return Step("submit", "to do", f"upload {candidate.csv} to {where}")
    if UploadNote(workspace, settings.competition, earlier.instance).exists():
        text = f"ask {where} whether an upload that was begun arrived; upload only if it did not"
        return Step("submit", "to do", text)
    if earlier.status == "PENDING":
        return Step("submit", "to do", f"wait for the score of submission {earlier.ref}")
    if earlier.status == "ERROR":
        text = f"submission {earlier.ref} could not be scored ({earlier.error})"
        return Step("submit", "refused", f"{text}; FORCE=1 uploads again")
    return Step("submit", "up to date", f"submission {earlier.ref} to {where}")
