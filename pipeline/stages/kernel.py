"""kernel: the stages inside a Kaggle notebook, where the data is mounted and time is limited.

A notebook sees the competition's files, and the output of earlier sessions attached to it, in
read-only folders below `inputs`. What it leaves in `working` is its output.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.artifacts import sha256_of, write_whole
from pipeline.competition import Competition, load_competition
from pipeline.data.archive_members import is_archive
from pipeline.data.archives import unpack_archives
from pipeline.errors import BudgetError, DataError
from pipeline.models.pretrained import find_weights, weights_slug
from pipeline.stages.console import say
from pipeline.stages.predict import predict
from pipeline.stages.preprocess import preprocess, resolve, submission_form
from pipeline.stages.settings import Settings
from pipeline.stages.submission import submission
from pipeline.stages.train import train
from pipeline.training.deadline import Deadline
from pipeline.training.run import RECORD, epochs_below
from pipeline.workspace import Workspace

RUNS = "submissions"
_TRAINING_SHARE = 0.9  # of the session; the rest is for prediction and for saving the output
_DEEPEST_OUTPUT = 4  # folders between `inputs` and an attached output's own


def run_kernel(
    settings: Settings, *, inputs: Path, working: Path, scratch: Path, hours: float
) -> Path | None:
    """From mounted files to `working`/submission.csv; None where the time budget ended first.

    `settings.root` is not used: data goes to `scratch`, runs to `working`/submissions.

    Raises:
        DataError: the competition is not mounted, or its files are damaged.
        ConfigError: something that the files leave open must be set in competition.toml.
    """
    deadline = Deadline.after(_TRAINING_SHARE * hours * 3600)
    workspace = open_kernel(settings.competition, inputs=inputs, working=working, scratch=scratch)
    settings = settings.with_root(workspace.root)
    definition = load_competition(settings.competition, workspace.root).with_size(settings.size)
    cache = preprocess(workspace, definition)
    competition = resolve(workspace, definition, cache)
    run = train_within(settings, competition, cache, deadline)
    return None if run is None else finish_kernel(workspace, competition, cache, run, working)


def open_kernel(competition: str, *, inputs: Path, working: Path, scratch: Path) -> Workspace:
    """A workspace over the mounted files, with the runs of attached outputs taken up.

    Raises:
        DataError: the competition is not mounted.
    """
    workspace = Workspace(root=scratch / "workspace")
    mounted = find_competition_files(inputs, competition)
    _provide_raw(mounted, workspace.raw(competition))
    runs = workspace.root / RUNS
    if not runs.exists():
        (working / RUNS).mkdir(parents=True, exist_ok=True)
        runs.symlink_to((working / RUNS).absolute())
    adopt_runs(inputs, workspace.runs(competition))
    return workspace


def find_competition_files(inputs: Path, competition: str) -> Path:
    """Where the competition's files are mounted; Kaggle has used two places.

    Raises:
        DataError: they are in neither; names what is there.
    """
    places = [inputs / "competitions" / competition, inputs / competition]
    for place in places:
        if place.is_dir() and any(place.iterdir()):
            say("kernel", f"data: {place}")
            return place
    there = sorted(path.name for path in inputs.iterdir()) if inputs.is_dir() else []
    raise DataError(
        f"{competition} is not mounted at {places[0]} or {places[1]} (there: "
        f"{', '.join(there) or 'nothing'}); add the competition as input and run again"
    )


def attached_weights(model: str, sha256: str, inputs: Path) -> str:
    """The attached weights of that hash as the setting `weights`; none where no hash is given.

    Raises:
        DataError: they are not attached, or others are.
    """
    if not sha256:
        return "none"
    found = find_weights(model, [inputs])
    if found is None or sha256_of(found) != sha256:
        there = f"{found} holds others" if found else f"there are none below {inputs}"
        raise DataError(
            f"the weights {sha256[:16]} of {model} are not attached ({there}); attach the newest "
            f"version of your dataset {weights_slug(model)} and run again"
        )
    say("kernel", f"weights: {found}")
    return str(found)


def _provide_raw(mounted: Path, raw: Path) -> None:
    """The mounted files as the raw folder; where some are packed, an unpacked copy."""
    if raw.exists():
        return
    raw.parent.mkdir(parents=True, exist_ok=True)
    if any(is_archive(path) for path in mounted.rglob("*")):
        shutil.copytree(mounted, raw)
        unpack_archives(raw)
    else:
        raw.symlink_to(mounted.absolute())


def adopt_runs(inputs: Path, runs: Path) -> None:
    """Copy what earlier sessions left of their runs, so that training goes on from there.

    Where several left the same run, it is the one that is trained furthest.
    """
    left = [
        record.parent
        for depth in range(1, _DEEPEST_OUTPUT + 1)
        for record in inputs.glob(f"{'*/' * depth}{RUNS}/{runs.name}/*/{RECORD}")
    ]
    for run in sorted(left, key=epochs_below, reverse=True):
        own = runs / run.name
        if not (own / RECORD).exists():
            shutil.copytree(run, own, ignore=shutil.ignore_patterns(RECORD), dirs_exist_ok=True)
            # Last: a copy that was interrupted is made again.
            write_whole(own / RECORD, (run / RECORD).read_bytes())
            say("kernel", f"going on with {run}")


def train_within(
    settings: Settings, competition: Competition, cache: Path, deadline: Deadline
) -> Path | None:
    """Train until done or until the deadline; None where the deadline came first."""
    try:
        return train(settings, competition, cache, deadline=deadline)
    except BudgetError:
        say("kernel", "time is up: attach this notebook's output as its input and run it again")
        return None


def finish_kernel(
    workspace: Workspace, competition: Competition, cache: Path, run: Path, working: Path
) -> Path:
    """Predict, write and check the submission, and leave it where Kaggle looks for it."""
    predict(run, cache)
    form = submission_form(workspace, competition, cache)
    checked = submission(run, form)
    output = working / checked.name
    shutil.copyfile(checked, output)
    say("kernel", f"output: {output}")
    return output
