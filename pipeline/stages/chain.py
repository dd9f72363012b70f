"""The stages in order; asking for one runs the earlier ones whose inputs changed."""

from __future__ import annotations

from pathlib import Path

from pipeline.competition import Competition, load_competition
from pipeline.models.onnx import check_onnx
from pipeline.stages.download import download
from pipeline.stages.export import export
from pipeline.stages.hosts import check_slug
from pipeline.stages.lock import only_command
from pipeline.stages.lr_find import lr_find
from pipeline.stages.predict import predict
from pipeline.stages.preprocess import preprocess, resolve, submission_form
from pipeline.stages.settings import Settings, check_settings
from pipeline.stages.submission import submission
from pipeline.stages.submit import submit
from pipeline.stages.train import train

STAGES = ("download", "preprocess", "train", "predict", "submission", "submit")


def run_until(last: str, settings: Settings) -> None:
    """Run the stages up to and including `last`; each says whether it had anything to do.

    `export` and `lr-find` stand beside the chain: they need what `train` does, and what it needs.

    Raises:
        PipelineError: a stage failed; what earlier stages finished stays.
    """
    check_settings(settings)
    check_slug(settings.competition)
    if last == "export":
        check_onnx()  # before training for it
    workspace = settings.workspace
    with only_command(workspace):
        definition = load_competition(
            settings.competition, workspace.competition(settings.competition)
        )
        host = download(workspace, settings.competition, settings.host)
        if last == "download":
            return
        cache = preprocess(workspace, definition)
        if last != "preprocess":
            competition = resolve(workspace, definition, cache)
            _train_until(last, settings, competition, cache, host)


def _train_until(
    last: str, settings: Settings, competition: Competition, cache: Path, host: str
) -> None:
    workspace = settings.workspace
    if last == "lr-find":
        lr_find(settings, competition, cache)
        return
    run = train(settings, competition, cache)
    if last == "train":
        return
    if last == "export":
        export(run, cache)
        return
    predict(run, cache)
    if last == "predict":
        return
    form = submission_form(workspace, competition, cache)
    submission(run, form)
    if last == "submit":
        submit(workspace, competition, form, run, host, force=settings.force)
