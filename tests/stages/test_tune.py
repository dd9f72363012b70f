"""tune: trials on real digits, killed and taken up again; its best is a recipe that trains."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from pipeline.errors import BudgetError, ConfigError
from pipeline.refine.space import suggest
from pipeline.stages.chain import run_until
from pipeline.stages.push import push
from pipeline.stages.settings import Settings
from pipeline.stages.tune import tune
from pipeline.training.recipes import make_recipe
from pipeline.training.seeds import derive_seed
from tests.stages.commands import REPOSITORY, write_digit_images


def settings_at(root: Path) -> Settings:
    return Settings(
        competition="digits", recipe="smoke", set="epochs=3", folds=3, host="local", root=root
    )


def trials_at(root: Path, competition: str = "digits") -> list[optuna.trial.FrozenTrial]:
    found = list(root.glob(f"submissions/{competition}/tune-*/study.db"))
    if not found:
        return []
    return optuna.load_study(study_name="tune", storage=f"sqlite:///{found[0]}").trials


def test_a_killed_search_goes_on_and_its_best_can_be_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--competition", "digits", "--recipe", "smoke", "--set", "epochs=3", "--folds", "3"]
    command = [sys.executable, "-m", "pipeline", "tune", *options, "--host", "local"]
    process = subprocess.Popen(
        [*command, "--root", str(tmp_path), "--trials", "3"],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not any(trial.intermediate_values for trial in trials_at(tmp_path)):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()

    best = tune(settings_at(tmp_path), trials=2)

    trials = trials_at(tmp_path)
    running = [trial for trial in trials if not trial.state.is_finished()]
    assert running == []
    cut = [trial.user_attrs["again"] for trial in trials if "again" in trial.user_attrs]
    taken_up = [trial for trial in trials if "again" in trial.user_attrs]
    assert len(cut) == 1
    assert taken_up[0].params == trials[cut[0]].params
    assert sorted(taken_up[0].intermediate_values) == [0, 1, 2]
    assert trials[0].params["learning_rate"] == make_recipe("smoke").learning_rate
    assert list(best.parent.glob("trial-*")) == []
    assert (best.parent / "trials.png").stat().st_size > 0
    printed = capsys.readouterr().out
    assert "the recipe's own values" in printed
    saved_as = f"make train COMPETITION=digits RECIPE={best} FOLDS=3 HOST=local"
    assert f"saved: {saved_as}\n" in printed

    saved = replace(settings_at(tmp_path), recipe=str(best), set="")
    assert asdict(make_recipe(str(best))) == json.loads(best.read_text())
    run_until("train", saved)
    with pytest.raises(ConfigError, match="a kernel cannot read that file"):
        push(saved)


def mine_at(root: Path) -> Settings:
    """A search of little cost, on a competition of 60 images in `root`."""
    write_digit_images(root / "data/mine/raw", train=60, test=2)
    return Settings(
        competition="mine",
        model="nntrain-cnn",
        recipe="smoke",
        set="compile=off threads=1",
        execution="folded",
        folds=2,
        root=root,
    )


def test_a_metric_that_is_undefined_on_the_fold_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stages.tune.score", lambda *_: float("nan"))

    with pytest.raises(ConfigError, match="accuracy is undefined on the 30 validation images of f"):
        tune(mine_at(tmp_path), trials=2)

    assert len(trials_at(tmp_path, "mine")) == 1


class AfterAnEpoch(optuna.pruners.BasePruner):
    """Prunes every trial but the first."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.number > 0 and len(trial.intermediate_values) > 0


def test_what_a_trial_was_pruned_by_is_not_told_as_its_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda *_, **__: AfterAnEpoch())
    settings = mine_at(tmp_path)
    (tmp_path / "data/mine/competition.toml").write_text('metric = "macro_f1"\n')

    tune(settings, trials=2)

    first, second = trials_at(tmp_path, "mine")
    assert second.value == second.intermediate_values[0]
    printed = capsys.readouterr().out
    assert f"tune        0  {first.value:.4f}  " in printed
    assert f"tune        1  pruned, accuracy {second.value:.4f}  " in printed


class KilledError(BaseException):
    """Stands for a kill: nothing of the command runs after it."""


def test_a_kill_between_two_suggested_values_changes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = mine_at(tmp_path)
    suggest_float = optuna.Trial.suggest_float

    def suggest_or_be_killed(trial: optuna.Trial, name: str, *limits: float, **options: Any) -> Any:
        if name == "warmup":
            raise KilledError
        return suggest_float(trial, name, *limits, **options)

    for trials in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr(optuna.Trial, "suggest_float", suggest_or_be_killed)
            with pytest.raises(KilledError):
                tune(settings, trials=trials)
        tune(settings, trials=trials)

    own, found = asdict(make_recipe("smoke")), trials_at(tmp_path, "mine")
    assert [len(trial.params) for trial in found] == [3, 8, 3, 8]
    assert found[1].params.items() <= own.items()
    sampler = optuna.samplers.TPESampler(seed=derive_seed(0, "tune", 1) % 2**32)
    never_killed = optuna.create_study(sampler=sampler).ask()
    suggest(never_killed, own)
    assert found[3].params == never_killed.params


def test_a_budget_that_ends_at_once_says_so(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"no trial has ended yet in .*rerun to continue"):
        tune(replace(settings_at(tmp_path), budget="0s"), trials=2)
    with pytest.raises(ConfigError, match="TRIALS=0: at least 1"):
        tune(settings_at(tmp_path), trials=0)
