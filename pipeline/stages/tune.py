"""tune: search better values of a recipe's fields on one fold (optional extra `tune`: Optuna)."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artifacts import (
    content_key,
    read_json,
    sha256_of,
    unfinished_folder,
    verify_manifest,
    write_json,
    write_whole,
)
from pipeline.competition import Competition
from pipeline.data.cache import TensorCache, load_cache
from pipeline.errors import BudgetError, ConfigError
from pipeline.metrics import lower_is_better, score
from pipeline.refine.plots import plot_trials
from pipeline.refine.space import own_values, suggest
from pipeline.stages.again import next_command
from pipeline.stages.chain import prepared
from pipeline.stages.console import say, say_table
from pipeline.stages.decisions import decide
from pipeline.stages.fold_map import shared_fold_map
from pipeline.stages.network import network_of
from pipeline.stages.settings import Settings, changes, check_settings
from pipeline.stages.train import run_identity
from pipeline.training.deadline import Deadline, parse_budget
from pipeline.training.fold import run_fold
from pipeline.training.launch import devices_for
from pipeline.training.recipes import Recipe, make_recipe
from pipeline.training.run import FOLDS, METRICS, OUT_OF_FOLD, RECORD, Run
from pipeline.training.seeds import derive_seed
from pipeline.training.state import EpochMetrics
from pipeline.training.tables import read_probabilities

if TYPE_CHECKING:
    import optuna

FOLD = 0
BEST = "best.json"
_STUDY = "study.db"
_STUDY_NAME = "tune"
_RANDOM_TRIALS = 6  # before the sampler has seen enough to lead
_UNPRUNED_TRIALS = 4
_AGAIN = "again"  # holds the number of the stopped trial that this one takes up


def tune(settings: Settings, trials: int) -> Path:
    """Search until there are so many trials, or until the budget ends; rerun to go on.

    Returns the best recipe's file.

    Raises:
        ConfigError: Optuna is missing, or the recipe's own values cannot be trained.
        BudgetError: the budget ended before the first trial did.
    """
    check_settings(settings)
    _check_optuna(trials)
    deadline = Deadline.after(parse_budget(settings.budget))
    with prepared(settings) as (competition, cache, _):
        verify_manifest(cache)
        search = _open_search(settings, competition, cache)
        with deadline.heeding_signals():
            _run_trials(search, trials, deadline)
        return _report(settings, search)


def _check_optuna(trials: int) -> None:
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("tune needs optuna; install the optional extra: pip install -e '.[tune]'")
    if trials < 1:
        raise ConfigError(f"TRIALS={trials}: at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Search:
    """A search: what is trained, on what, and where it is kept."""

    folder: Path
    study: optuna.Study
    base: Run
    metric: str
    data: TensorCache
    seed: int

    @property
    def recipe(self) -> Recipe:
        """The recipe whose fields are searched."""
        return self.base.recipe

    @property
    def watched(self) -> str:
        """What trials are pruned by: of a score little is known before the end."""
        return "loss" if lower_is_better(self.metric) else "accuracy"

    def finished(self) -> list[optuna.trial.FrozenTrial]:
        """Trials that ended by themselves, whether with a score or not."""
        trials = self.study.get_trials(deepcopy=False)
        stopped = {trial.user_attrs.get(_AGAIN) for trial in trials}
        return [
            trial for trial in trials if trial.state.is_finished() and trial.number not in stopped
        ]


def _open_search(settings: Settings, competition: Competition, cache: Path) -> _Search:
    data = load_cache(cache)
    fold_map = shared_fold_map(settings, competition, data.train)
    recipe = make_recipe(settings.recipe, changes(settings)[0])
    network, weights = network_of(settings, recipe, data)
    sha256 = sha256_of(fold_map)
    identity = run_identity(settings, competition, cache, data, sha256, network, recipe)
    metric = competition.metric or "accuracy"
    name = f"tune-{content_key([identity, metric, FOLD], 8)}"
    folder = settings.workspace.runs(competition.slug) / name
    if not (folder / FOLDS).exists():
        write_whole(folder / FOLDS, fold_map.read_bytes())
    path = folder / "tune.json"
    base = Run(folder, read_json(path) if path.exists() else {"run": name, **identity})
    if weights:
        base.record["weights_file"] = str(weights.path)
    if not base.can_execute():
        base.record["execution"] = asdict(decide(base, data))
        write_json(path, base.record)
    study = _open_study(folder / _STUDY, metric)
    return _Search(
        folder=folder, study=study, base=base, metric=metric, data=data, seed=settings.seed
    )


def _open_study(path: Path, metric: str) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not path.exists():
        _create_study(path, metric)
    return optuna.load_study(study_name=_STUDY_NAME, storage=f"sqlite:///{path.absolute()}")


def _create_study(path: Path, metric: str) -> None:
    """Make the database beside `path` and move it there: its tables take several transactions."""
    import optuna

    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{partial.absolute()}")
    optuna.create_study(
        storage=storage,
        study_name=_STUDY_NAME,
        direction="minimize" if lower_is_better(metric) else "maximize",
    )
    storage.remove_session()
    storage.engine.dispose()
    partial.replace(path)


def _run_trials(search: _Search, trials: int, deadline: Deadline) -> None:
    """Ask, train and tell until there are enough; a trial that was stopped goes on first."""
    import optuna

    study, epochs = search.study, search.recipe.epochs
    study.pruner = optuna.pruners.MedianPruner(_UNPRUNED_TRIALS, n_warmup_steps=epochs // 3)
    _take_up(search)
    while len(search.finished()) < trials and not deadline.has_come:
        number = len(search.finished())
        # Seeded by its number, so that a search that was stopped suggests the same.
        seed = derive_seed(search.seed, "tune", number) % 2**32
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM_TRIALS)
        try:
            _run_trial(search, study.ask(), deadline)
        except BudgetError as stop:
            say("tune", f"{stop.args[0]}; the trial is kept")
            return


def _take_up(search: _Search) -> None:
    """Begin with the recipe's own values; put trials that a stop cut off at the head again."""
    import optuna

    study, states = search.study, optuna.trial.TrialState
    trials = study.get_trials(deepcopy=False)
    own = own_values(asdict(search.recipe))
    if not trials:
        study.enqueue_trial(own)
    waiting_again = {trial.user_attrs.get(_AGAIN) for trial in trials}
    for trial in trials:
        if trial.state == states.RUNNING:
            if trial.number not in waiting_again:
                # Not with its values, which a kill may have left incomplete: seeded alike, the
                # sampler suggests them again.
                given = {} if search.finished() else own
                study.enqueue_trial(given, user_attrs={_AGAIN: trial.number})
            study.tell(trial.number, state=states.FAIL)


def _run_trial(search: _Search, trial: optuna.Trial, deadline: Deadline) -> None:
    """Train the fold with the suggested values, and tell the study how it went.

    Raises:
        BudgetError: the deadline came first; the checkpoint stays for the trial taken up again.
        ConfigError: the recipe's own values cannot be trained.
    """
    import optuna

    recipe = replace(search.recipe, **suggest(trial, asdict(search.recipe)))
    run = _run_of(search, recipe)
    device = devices_for(run.execution)[0]

    def report(_: EpochMetrics | None = None) -> None:
        _report_epochs(search, trial, unfinished_folder(run.fold(FOLD)))

    run.execution.prepare_process()
    failed = optuna.trial.TrialState.FAIL
    try:
        report()  # what a trial was stopped behind
        run_fold(run, search.data, FOLD, device, report, deadline)
    except optuna.TrialPruned:
        search.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        say("tune", f"trial {trial.number}: pruned ({_changed(search.recipe, recipe)})")
    except ConfigError as error:
        if recipe == search.recipe:
            raise
        search.study.tell(trial, state=failed)
        say("tune", f"trial {trial.number}: failed ({_changed(search.recipe, recipe)}): {error}")
    else:
        _report_epochs(search, trial, run.fold(FOLD))
        value = _score(search, run)
        search.study.tell(trial, value)
        changed = _changed(search.recipe, recipe)
        say("tune", f"trial {trial.number}: {search.metric} {value:.4f} ({changed})")
    shutil.rmtree(run.folder)


def _run_of(search: _Search, recipe: Recipe) -> Run:
    """A run folder for one trial; the same values find the same folder, and its checkpoint."""
    folder = search.folder / f"trial-{content_key(asdict(recipe), 8)}"
    of_base = search.base.record
    record = {
        **of_base,
        "run": f"{search.folder.name}/{folder.name}",
        "recipe": {"name": of_base["recipe"]["name"], **asdict(recipe)},
        "network": {**of_base["network"], "dropout": recipe.dropout},
    }
    write_whole(folder / FOLDS, (search.folder / FOLDS).read_bytes())
    write_json(folder / RECORD, record)
    return Run(folder, record)


def _report_epochs(search: _Search, trial: optuna.Trial, fold: Path) -> None:
    """Report every epoch of the trial's fold once: those of before a stop to this trial, too.

    Pruning goes by all of them.

    Raises:
        optuna.TrialPruned: they are worse than those of other trials, and there are more to come.
    """
    import optuna

    reported = search.study.get_trials(deepcopy=False)[trial.number].intermediate_values
    path = fold / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        epoch = json.loads(line)
        if epoch["epoch"] not in reported:
            trial.report(epoch[f"valid_{search.watched}"], epoch["epoch"])
    if len(lines) < search.recipe.epochs and trial.should_prune():
        raise optuna.TrialPruned


def _score(search: _Search, run: Run) -> float:
    """The competition's metric of the fold's out-of-fold predictions.

    Raises:
        ConfigError: it is undefined on these images.
    """
    table = read_probabilities(run.fold(FOLD) / OUT_OF_FOLD)
    row_of = {name: row for row, name in enumerate(search.data.train.ids)}
    rows = np.array([row_of[name] for name in table.index])
    truth = search.data.train.known_labels().numpy()[rows]
    value = score(search.metric, truth, table.to_numpy())
    if not math.isfinite(value):
        raise ConfigError(
            f"{search.metric} is undefined on the {len(truth)} validation images of fold {FOLD}, "
            "so no trial can have a score; choose another FOLDS, FOLD_SEED or group_column"
        )
    return value


def _changed(own: Recipe, recipe: Recipe) -> str:
    """What differs from the recipe's own values, as SET takes it."""
    before, after = asdict(own), asdict(recipe)
    changes = [f"{name}={value:g}" for name, value in after.items() if value != before[name]]
    return " ".join(changes) or "the recipe's own values"


def _report(settings: Settings, search: _Search) -> Path:
    """Print the trials, draw them, and save the best recipe.

    Raises:
        BudgetError: no trial has a score yet.
    """
    finished = search.finished()
    scored = [trial for trial in finished if trial.value is not None and not _was_pruned(trial)]
    if not scored:
        raise BudgetError(f"no trial has ended yet in {search.folder}; rerun to continue from here")
    sign = 1 if lower_is_better(search.metric) else -1
    best = min(scored, key=lambda trial: (sign * (trial.value or 0.0), trial.number))
    recipe = _recipe_of(search, best)
    write_json(search.folder / BEST, asdict(recipe))
    write_whole(search.folder / "trials.png", _plot(search, finished))
    say_table("tune", [_row(search, trial) for trial in finished])
    own = [trial for trial in scored if _recipe_of(search, trial) == search.recipe]
    beside = f"; the recipe's own values {own[0].value:.4f}" if own else ""
    say(
        "tune",
        f"best of {len(scored)}: trial {best.number}, {search.metric} {best.value:.4f}{beside}",
    )
    say("tune", "a best of many on one fold flatters itself: cross-validate it before you trust it")
    if recipe != search.recipe:
        say("tune", f"SET='{_changed(search.recipe, recipe)}'")
    best_file = search.folder / BEST
    say("tune", f"saved: {_training(settings, best_file)}")
    return best_file


def _training(settings: Settings, best: Path) -> str:
    """The command that trains with the saved recipe, and is otherwise as the search was."""
    values = {
        "CONV": settings.conv,
        "MODEL": settings.model,
        "RECIPE": best,
        "FOLDS": settings.folds,
        "SEED": settings.seed,
        "FOLD_SEED": settings.fold_seed,
        "EXECUTION": settings.execution,
        "WEIGHTS": settings.weights,
        "SET": " ".join(f"{name}={value}" for name, value in changes(settings)[1].items()),
    }
    return next_command("train", settings, values)


def _was_pruned(trial: optuna.trial.FrozenTrial) -> bool:
    return trial.state.name == "PRUNED"


def _recipe_of(search: _Search, trial: optuna.trial.FrozenTrial) -> Recipe:
    import optuna

    given = optuna.trial.FixedTrial(trial.params)
    return replace(search.recipe, **suggest(given, asdict(search.recipe)))


def _row(search: _Search, trial: optuna.trial.FrozenTrial) -> tuple[str, str, str]:
    what = trial.state.name.lower()
    if trial.value is not None:
        what = f"{trial.value:.4f}"
        if _was_pruned(trial):  # its value is that of its last epoch, no score
            what = f"pruned, {search.watched} {what}"
    return str(trial.number), what, _changed(search.recipe, _recipe_of(search, trial))


def _plot(search: _Search, finished: Sequence[optuna.trial.FrozenTrial]) -> bytes:
    points: list[tuple[int, float, bool]] = [
        (trial.number, trial.value, _was_pruned(trial))
        for trial in finished
        if trial.value is not None
    ]
    recipe: dict[str, Any] = search.base.record["recipe"]
    title = f"{recipe['name']}, {search.base.network.model}, {search.base.network.conv}"
    better, watched = not lower_is_better(search.metric), search.watched
    return plot_trials(title, search.metric, points, watched, greater_is_better=better)
