"""pseudo: train a run once more, with test images that its own networks are sure of.

Fold k trains on its training images and on those test images that fold k's network of the base run
predicts with enough confidence, never on what the mean over the folds says: the networks of the
other folds have seen the labels of fold k's validation images. So the pseudo-labels of fold k never
depend on a label of fold k, and the scores of both runs can be compared fold by fold.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.artifacts import content_key, sha256_of, write_json, write_whole
from pipeline.competition import Competition
from pipeline.data.cache import TensorCache, load_cache
from pipeline.errors import ConfigError
from pipeline.refine.gain import gain_of, gain_text
from pipeline.refine.refinement import Problem
from pipeline.stages.again import next_command
from pipeline.stages.chain import prepared
from pipeline.stages.console import say
from pipeline.stages.decisions import make_executable
from pipeline.stages.launchers import launcher
from pipeline.stages.members import Member, check_every_fold, open_member
from pipeline.stages.predict import predictions_by_fold
from pipeline.stages.provenance import provenance
from pipeline.stages.settings import Settings, named_run
from pipeline.stages.train import ENGINE_VERSION, note_weights, train_runs
from pipeline.training.deadline import Deadline, parse_budget
from pipeline.training.pseudo import confident, write_pseudo
from pipeline.training.run import FOLDS, MADE_FROM, PSEUDO, RECORD, WEIGHTS, Run

_SAME_AS_BASE = (
    *("competition", "cache", "mirror", "multi_label", "folds", "seed", "network", "recipe"),
    *("asked", "metric"),
)


def pseudo(settings: Settings, confidence: float) -> Path:
    """The run like the named one that trains on its pseudo-labels, too; what is there is kept.

    Network, recipe, folds and seed are those of the named run. Training and test images have to fit
    in memory together.

    Raises:
        ConfigError: the run is none that can be trained again, or no test image is sure enough.
        BudgetError: the budget ended first; rerun to go on.
    """
    name = named_run(settings, "pseudo")
    if not 0 < confidence <= 1:
        raise ConfigError(f"CONFIDENCE={confidence}: choose a probability above 0, up to 1")
    deadline = Deadline.after(parse_budget(settings.budget))
    with prepared(settings) as (competition, cache, _):
        data = load_cache(cache)
        base = open_member(settings.workspace, competition, data, name)
        check_base(base, cache)
        run = open_pseudo_run(Run(base.folder, base.record), data, confidence, settings.launch)
        counts = ", ".join(map(str, run.record[PSEUDO]["labels"]))
        say("pseudo", f"{counts} of {len(data.test.ids)} test images are sure enough, by fold")
        train_runs([run], competition, cache, deadline, launcher(settings.launch))
        _tell_gain(settings, run, base, competition)
    return run.folder


def check_base(base: Member, cache: Path) -> None:
    """Make sure that the run can be trained again with pseudo-labels.

    Raises:
        ConfigError: it cannot.
    """
    record, name = base.record, base.name
    if base.is_derived:
        made_from = ", ".join(source["run"] for source in record[MADE_FROM])
        raise ConfigError(f"RUN={name!r} was made from other runs; name one of them: {made_from}")
    if base.data.multi_label:
        raise ConfigError("pseudo is for images with one label each; these may have several")
    if record["cache"] != cache.name:
        raise ConfigError(
            f"RUN={name!r} was trained on the tensors {record['cache']!r}, and the files now give "
            f"{cache.name!r}; give the SIZE that it was trained with, or train it again"
        )
    check_every_fold(base)
    run = Run(base.folder, record)
    if run.recipe.keep != "last":
        raise ConfigError(
            f"RUN={name!r} keeps the epoch that its validation labels chose (keep="
            f"{run.recipe.keep}), so its pseudo-labels would depend on them; train it with "
            "SET='keep=last'"
        )
    file, sha256 = run.weights_file, run.network.weights
    if sha256 and (file is None or not file.is_file() or sha256_of(file) != sha256):
        raise ConfigError(
            f"RUN={name!r} starts from weights that are not at {file} any more; bring them back"
        )


def open_pseudo_run(base: Run, data: TensorCache, confidence: float, launch: str = "auto") -> Run:
    """The run beside `base` that takes its pseudo-labels, made with them unless it exists.

    `launch` says where its folds are to train.

    Raises:
        ConfigError: no test image is sure enough for some fold.
        DataError: a fold of the base run is damaged.
    """
    identity = _identity(base, confidence)
    folder = base.folder.with_name(f"pseudo-{content_key(identity, 8)}")
    if not (folder / RECORD).exists():
        _write(folder, identity, base, pseudo_tables(base, data, confidence))
    run = Run.open(folder)
    if base.weights_file:
        note_weights(run, base.weights_file)
    make_executable(run, data, launch)
    return run


def _identity(base: Run, confidence: float) -> dict[str, Any]:
    """All that decides the run's numbers; the base networks' weights stand for their labels."""
    same = {key: base.record[key] for key in _SAME_AS_BASE if key in base.record}
    pseudo_from = {
        "from": base.folder.name,
        "weights": [sha256_of(base.fold(number) / WEIGHTS) for number in base.folds],
        "confidence": confidence,
    }
    return {**same, "engine_version": ENGINE_VERSION, PSEUDO: pseudo_from}


def pseudo_tables(base: Run, data: TensorCache, confidence: float) -> list[pd.DataFrame]:
    """The pseudo-labels that each fold's own network gives, in the order of the test images.

    Raises:
        ConfigError: no test image is sure enough for some fold.
    """
    tables = []
    for number, probabilities in enumerate(predictions_by_fold(base, data)):
        table = confident(data.test.ids, probabilities, data.classes, confidence)
        if table.empty:
            raise ConfigError(
                f"CONFIDENCE={confidence}: fold {number} is that sure of none of "
                f"{len(probabilities)} test images, at most {probabilities.max():.4f}; lower it"
            )
        tables.append(table)
    return tables


def _write(folder: Path, identity: dict[str, Any], base: Run, tables: list[pd.DataFrame]) -> None:
    """Leave a run folder that is ready to train; its record is written last."""
    paths = [folder / f"pseudo{number}.csv" for number in base.folds]
    for path, table in zip(paths, tables, strict=True):
        write_pseudo(path, table)
    write_whole(folder / FOLDS, (base.folder / FOLDS).read_bytes())
    labels = {"labels": [len(table) for table in tables], "sha256": [*map(sha256_of, paths)]}
    weights = {"weights_file": str(base.weights_file)} if base.weights_file else {}
    record = {
        "run": folder.name,
        **identity,
        PSEUDO: {**identity[PSEUDO], **labels},
        **weights,
        "execution": asdict(base.execution),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **provenance(),
    }
    write_json(folder / RECORD, record)


def _tell_gain(settings: Settings, run: Run, base: Member, competition: Competition) -> None:
    """Note what the pseudo-labels are worth, and say it."""
    truth = base.data.train.known_labels().numpy()
    problem = Problem(competition.metric or "accuracy", truth, base.fold)
    made = Member(run.folder, run.record, base.data)
    new, old = (problem.answers(each.out_of_fold) for each in (made, base))
    gain = {"over": base.name, **gain_of(problem, new, old).as_dict()}
    run.record["gain"] = gain
    write_json(run.folder / RECORD, run.record)
    say("pseudo", gain_text(gain))
    command = next_command("submit", settings, {"RUN": run.folder.name})
    say(
        "pseudo",
        f"keep {base.name}" if gain["verdict"] == "worse" else f"upload it with: {command}",
    )
