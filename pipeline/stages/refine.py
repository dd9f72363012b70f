"""calibrate, thresholds, blend: better submissions from runs that are there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from pipeline.competition import Competition
from pipeline.data.cache import load_cache
from pipeline.errors import ConfigError
from pipeline.metrics import metric_named
from pipeline.metrics.decisions import Decision
from pipeline.refine.blending import Blend, How
from pipeline.refine.deciding import Deciding
from pipeline.refine.gain import gain_text
from pipeline.refine.plots import plot_blend, plot_decision, plot_reliability
from pipeline.refine.temperature import Temperature
from pipeline.stages.again import next_command
from pipeline.stages.chain import prepared
from pipeline.stages.console import say, say_table
from pipeline.stages.derive import Derived, Fresh, derive
from pipeline.stages.fold_map import shared_fold_map
from pipeline.stages.members import ALL, Member, all_trained, open_members
from pipeline.stages.settings import Settings, check_settings, named_run
from pipeline.stages.train import cv_text


def calibrate(settings: Settings) -> Path:
    """The run of the settings with its temperature fitted for log loss.

    Raises:
        PipelineError: there is no such run, it does not fit, or the metric is another.
    """
    name = named_run(settings, "calibrate")
    with prepared(settings) as (competition, cache, _):
        if competition.metric != "log_loss":
            raise ConfigError(
                f"metric={competition.metric!r} is not what a temperature is fitted for: calibrate "
                "is for log_loss"
            )
        return _calibrate(settings, competition, cache, name)


def _calibrate(settings: Settings, competition: Competition, cache: Path, name: str) -> Path:
    members = open_members(settings.workspace, competition, cache, [name])

    def plots(fresh: Fresh) -> dict[str, bytes]:
        tables = {"before": members[0].out_of_fold, "after": fresh.nested.probabilities}
        title = f"{name}: out-of-fold reliability"
        return {"reliability.png": plot_reliability(title, fresh.problem.truth, tables)}

    made = derive(settings.workspace, competition, cache, members, Temperature(), plots)
    temperature = made.record["parameters"]["temperature"]
    which = "less" if temperature > 1 else "more"
    say("calibrate", f"temperature {temperature:.3f}: {which} sure than {name}")
    return _told(settings, "calibrate", made)


def thresholds(settings: Settings) -> Path:
    """The run of the settings with a decision fitted for the competition's metric.

    Raises:
        PipelineError: there is no such run, it does not fit, or the metric compares no decisions.
    """
    name = named_run(settings, "thresholds")
    with prepared(settings) as (competition, cache, _):
        metric = competition.metric or "accuracy"
        if metric_named(metric).answers != "decisions":
            raise ConfigError(
                f"metric={metric!r} scores no decisions, so there is nothing to fit: thresholds is "
                "for accuracy, balanced_accuracy, macro_f1, micro_f1 and quadratic_kappa"
            )
        return _decide(settings, competition, cache, name)


def _decide(settings: Settings, competition: Competition, cache: Path, name: str) -> Path:
    members = open_members(settings.workspace, competition, cache, [name])

    def plots(fresh: Fresh) -> dict[str, bytes]:
        decision = fresh.fitted.decision or Decision("argmax")
        title = f"{name}: decision for {fresh.problem.metric}"
        return {"decision.png": plot_decision(title, decision, members[0].data.classes)}

    made = derive(settings.workspace, competition, cache, members, Deciding(), plots)
    decision, classes = made.record["decision"], members[0].data.classes
    say_table("thresholds", _decision_rows(decision["kind"], decision["values"], classes))
    return _told(settings, "thresholds", made)


def blend(settings: Settings, runs: str, how: How) -> Path:
    """The blend of the runs, named and separated by commas, or of all that were trained.

    Raises:
        PipelineError: a run does not fit the others, or there are fewer than two.
    """
    check_settings(settings)
    with prepared(settings) as (competition, cache, _):
        names = _blended(settings, competition, cache, runs)
        members = open_members(settings.workspace, competition, cache, names)
        made = derive(settings.workspace, competition, cache, members, Blend(how), _blend_plots)
        say_table("blend", _weight_rows(made.record["parameters"]["weights"], members))
        return _told(settings, "blend", made)


def _blended(settings: Settings, competition: Competition, cache: Path, runs: str) -> list[str]:
    folds = f"FOLDS={settings.folds} FOLD_SEED={settings.fold_seed}"
    names = [name.strip() for name in runs.split(",") if name.strip()]
    if runs == ALL:
        train = load_cache(cache).train
        fold_map = shared_fold_map(settings, competition, train)
        names = list(all_trained(settings.workspace, competition, fold_map))
        say("blend", f"{len(names)} trained runs with {folds}: {', '.join(names) or 'none'}")
    if len(names) < 2:
        raise ConfigError(
            f"RUNS={runs!r} names {len(names)} runs with the folds of {folds}: a blend needs two "
            "or more; train others, such as with another MODEL, RECIPE or SEED"
        )
    return names


def _decision_rows(
    kind: str, values: Sequence[float], classes: Sequence[str]
) -> list[tuple[str, str, str]]:
    names = list(classes)
    if kind == "cuts":
        names = [f"{low} | {high}" for low, high in pairwise(classes)]
    return [(name, f"{value:.4f}", kind) for name, value in zip(names, values, strict=True)]


def _weight_rows(weights: Sequence[float], members: Sequence[Member]) -> list[tuple[str, str, str]]:
    pairs = zip(weights, members, strict=True)
    return [(one.name, f"{weight:.3f}", cv_text(one.record["cv"])) for weight, one in pairs]


def _blend_plots(fresh: Fresh) -> dict[str, bytes]:
    problem, fitted = fresh.problem, fresh.fitted.parameters
    best = problem.answers(fresh.members[fresh.best].out_of_fold)
    alone = problem.its_metric.compute(problem.truth, best)
    names = [member.name for member in fresh.members]
    weights = dict(zip(names, fitted["weights"], strict=True))
    title = f"blend of {len(names)} runs"
    return {"blend.png": plot_blend(title, problem.metric, weights, fitted["path"], alone)}


def _told(settings: Settings, stage: str, made: Derived) -> Path:
    """Say what the derived run is worth, and how it is uploaded."""
    gain, state = made.record["gain"], "done" if made.is_new else "up to date"
    say(stage, f"{state}: {made.folder} ({cv_text(made.record['cv'])}, nested)")
    say(stage, gain_text(gain))
    command = next_command("submit", settings, {"RUN": made.folder.name})
    say(
        stage,
        f"keep {gain['over']}" if gain["verdict"] == "worse" else f"upload it with: {command}",
    )
    return made.folder
