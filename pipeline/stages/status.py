"""status: what is there, what is stale, and what the next `submit` would do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.artifacts import is_complete
from pipeline.competition import Competition, load_competition
from pipeline.data.cache import load_cache
from pipeline.errors import DataError
from pipeline.stages.console import say, say_table
from pipeline.stages.fold_map import current_fold_maps
from pipeline.stages.hosts import check_slug
from pipeline.stages.inventory import (
    cache_inventory,
    kernel_inventory,
    raw_inventory,
    run_inventory,
)
from pipeline.stages.next_steps import next_steps
from pipeline.stages.preprocess import describe, planned_cache
from pipeline.stages.settings import Settings, check_names

_STAGES = ("trained", "predicted", "submission")


def print_status(settings: Settings, *, as_json: bool = False) -> None:
    """Print `status` as lines, or as one JSON object.

    Raises:
        ConfigError: a setting has no such value, or the definition is none.
        DataError: the ledger, a run's or a push's record or a cache is damaged.
    """
    found = status(settings)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    say("status", settings.competition)
    for name, text in _lines(found):
        say(name, text)
    say("next", "what `make submit` with these settings does:")
    say_table("next", [(step["stage"], step["state"], step["text"]) for step in found["next"]])


def status(settings: Settings) -> dict[str, Any]:
    """What there is of the competition, as plain values; nothing is changed, read anew or started.

    Raises:
        ConfigError, DataError: as `print_status`.
    """
    check_slug(settings.competition)
    check_names(settings)
    workspace, slug = settings.workspace, settings.competition
    definition = load_competition(slug, workspace.competition(slug)).with_size(settings.size)
    cache = planned_cache(workspace, definition)
    folds = workspace.folds(slug)
    maps = _current_maps(settings, definition, cache)
    return {
        "competition": slug,
        "raw": raw_inventory(settings),
        "caches": cache_inventory(settings, cache),
        "folds": [
            {"map": path.name, "current": path.name in maps if maps is not None else None}
            for path in sorted(folds.glob("*.csv"))
        ],
        "runs": run_inventory(settings, cache, maps),
        "kernels": kernel_inventory(settings),
        "next": [asdict(step) for step in next_steps(settings, definition, cache)],
    }


def _current_maps(
    settings: Settings, definition: Competition, cache: Path | None
) -> dict[str, str] | None:
    """The saved fold maps of the images as they are; None: there is nothing to tell by."""
    if cache is None or not is_complete(cache):
        return None
    competition, part = describe(settings.workspace, definition, cache), load_cache(cache).train
    try:
        return current_fold_maps(settings, competition, part)
    except DataError:  # of the list of copies, which `next` tells
        return None


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    raw = found["raw"]
    yield "raw", f"{raw['state']}: {raw['files']} files, {raw['bytes'] / 1e6:.1f} MB"
    for cache in found["caches"]:
        yield "cache", f"{cache['key']} {'current' if cache['current'] else _age(cache['stale'])}"
    for fold_map in found["folds"]:
        state = {True: "current", False: "stale: of other images or groups", None: "not told"}
        yield "folds", f"{fold_map['map']} {state[fold_map['current']]}"
    for run in found["runs"]:
        yield "run", _run(run)
    for kernel in found["kernels"]:
        yield "kernel", _kernel(kernel)
    kinds = (("cache", "caches"), ("folds", "folds"), ("run", "runs"), ("kernel", "kernels"))
    for name, kind in kinds:
        if not found[kind]:
            yield name, "none"


def _age(stale: str | None) -> str:
    return f"stale: {stale}" if stale else "not told until preprocess reads the files"


def _run(run: dict[str, Any]) -> str:
    cv = run["cv"]
    score = f"CV {cv['metric']} {cv['mean']:.4f} ± {cv['std']:.4f}" if cv else "no CV yet"
    done = [stage for stage in _STAGES if run[stage]]
    if run["missing_folds"]:
        done.append(f"{len(run['missing_folds'])} folds missing")
    done += [_upload(upload) for upload in run["uploads"]]
    stale = f"; stale: {', '.join(run['stale'])}" if run["stale"] else ""
    return f"{run['run']} {score}; {', '.join(done) or 'nothing done'}{stale}"


def _kernel(kernel: dict[str, Any]) -> str:
    state = {
        "current": "current",
        "stale": "stale: the package makes another one; run `make kernels`",
        "absent": "absent; run `make kernels`",
        "foreign": "not one that `make kernels` writes",
    }[kernel["state"]]
    push = kernel["pushed"]
    pushed = f"; pushed as {push['version']} to {push['host']}" if push else ""
    return f"{kernel['kernel']} {state}{pushed}"


def _upload(upload: dict[str, Any]) -> str:
    scores = [
        f"{side} {upload[side]:.4f}" for side in ("public", "private") if upload[side] is not None
    ]
    return f"submission {upload['ref']} ({', '.join(scores) or upload['status'].lower()})"
