"""The stages in order; asking for one runs the earlier ones whose inputs changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.competition import Competition, load_competition
from pipeline.models.onnx import check_onnx
from pipeline.stages.download import download
from pipeline.stages.export import export
from pipeline.stages.hosts import check_slug
from pipeline.stages.launchers import launcher
from pipeline.stages.lock import only_command
from pipeline.stages.lr_find import lr_find
from pipeline.stages.members import find_run, finished_run
from pipeline.stages.predict import predict
from pipeline.stages.preprocess import preprocess, resolve, submission_form
from pipeline.stages.settings import Settings, check_settings
from pipeline.stages.starting_weights import named_weights
from pipeline.stages.submission import submission
from pipeline.stages.submit import submit
from pipeline.stages.train import train

STAGES = ("download", "preprocess", "train", "predict", "submission", "submit")


def run_until(last: str, settings: Settings) -> Path | None:
    """Run the stages up to and including `last`; each says whether it had anything to do.

    Returns the run's folder, where there is one by then.

    With a finished run named in the settings nothing is trained: the later stages go on with it.
    `export` and `lr-find` stand beside the chain: they need what `train` does, and what it needs.

    Raises:
        PipelineError: a stage failed; what earlier stages finished stays.
    """
    check_settings(settings)
    if last == "export":
        check_onnx()  # before training for it
    if last == "download":
        with _definition(settings):
            download(settings.workspace, settings.competition, settings.host)
        return None
    if last == "preprocess":
        with _definition(settings) as definition:
            download(settings.workspace, settings.competition, settings.host)
            preprocess(settings.workspace, definition)
        return None
    with prepared(settings) as (competition, cache, host):
        if last == "lr-find":
            lr_find(settings, competition, cache)
            return None
        return _train_until(last, settings, competition, cache, host)


@contextmanager
def prepared(settings: Settings) -> Iterator[tuple[Competition, Path, str]]:
    """The competition, its cache and its host, for the one command that works in this checkout.

    Raises:
        PipelineError: the competition cannot be had, or another command works here.
    """
    workspace = settings.workspace
    with _definition(settings) as definition:
        _check_files(settings)
        host = download(workspace, settings.competition, settings.host)
        cache = preprocess(workspace, definition)
        yield resolve(workspace, definition, cache), cache, host


def _check_files(settings: Settings) -> None:
    """Fail on a run or weights that are not there before anything is downloaded."""
    if settings.run:
        find_run(settings.workspace, settings.competition, settings.run)
    if settings.weights not in {"auto", "none"}:
        named_weights(settings.weights)


@contextmanager
def _definition(settings: Settings) -> Iterator[Competition]:
    check_slug(settings.competition)
    with only_command(settings.workspace):
        folder = settings.workspace.competition(settings.competition)
        yield load_competition(settings.competition, folder).with_size(settings.size)


def _train_until(
    last: str, settings: Settings, competition: Competition, cache: Path, host: str
) -> Path:
    workspace = settings.workspace
    if settings.run:
        run = finished_run(workspace, competition, cache, settings.run)
    else:
        run = train(settings, competition, cache, launch=launcher(settings.launch))
    if last == "train":
        return run
    if last == "export":
        export(run, cache)
        return run
    predict(run, cache)
    if last == "predict":
        return run
    form = submission_form(workspace, competition, cache)
    submission(run, form)
    if last == "submit":
        submit(workspace, competition, form, run, host, force=settings.force)
    return run
