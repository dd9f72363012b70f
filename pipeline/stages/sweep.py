"""sweep: every convolution with every seed, cross-validated side by side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from pipeline.errors import ConfigError
from pipeline.metrics import lower_is_better
from pipeline.stages.again import next_command
from pipeline.stages.chain import prepared
from pipeline.stages.console import say, say_table
from pipeline.stages.launchers import launcher
from pipeline.stages.settings import Settings, check_settings
from pipeline.stages.train import train_all
from pipeline.training.run import Run


def sweep(settings: Settings, convs: Sequence[str], seeds: Sequence[str]) -> None:
    """Train a run per convolution and seed; what is trained is kept, so a stopped sweep goes on.

    Raises:
        PipelineError: a setting is wrong, or runs failed; all others are trained and scored.
    """
    convs, numbers = list(dict.fromkeys(convs)), list(dict.fromkeys(map(_seed, seeds)))
    variants = [replace(settings, conv=conv, seed=seed) for conv in convs for seed in numbers]
    for variant in variants:
        check_settings(variant)
    with prepared(settings) as (competition, cache, _):
        runs = train_all(variants, competition, cache, launch=launcher(settings.launch))
    by_conv = {
        conv: runs[place * len(numbers) : (place + 1) * len(numbers)]
        for place, conv in enumerate(convs)
    }
    say_table("sweep", [_row(conv, of_conv) for conv, of_conv in by_conv.items()])
    choose = min if lower_is_better(runs[0].record["cv"]["metric"]) else max
    best = choose(by_conv, key=lambda conv: _mean(by_conv[conv]))
    name = by_conv[best][0].folder.name
    command = next_command("submit", settings, {"RUN": name})
    say("sweep", f"upload one with: {command}")


def _seed(text: str) -> int:
    if not text.strip().isdecimal():
        raise ConfigError(f"SEEDS={text!r}: whole numbers, separated by commas, such as 0,1,2")
    return int(text)


def _mean(runs: Sequence[Run]) -> float:
    return statistics.mean(float(run.record["cv"]["mean"]) for run in runs)


def _row(conv: str, runs: Sequence[Run]) -> tuple[str, str, str]:
    """The convolution, its score, and what that comes from."""
    scores = [run.record["cv"]["mean"] for run in runs]
    spread = f" ± {statistics.stdev(scores):.4f} over {len(runs)} seeds" if len(runs) > 1 else ""
    minutes = statistics.mean(run.record["seconds"]["train"] for run in runs) / 60
    folds = ", ".join(f"{score:.4f}" for run in runs for score in run.record["cv"]["folds"])
    metric = runs[0].record["cv"]["metric"]
    return conv, f"CV {metric} {_mean(runs):.4f}{spread}", f"{minutes:.1f} min a run; {folds}"
