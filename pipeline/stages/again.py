"""The command that makes a run again, from its record."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from pipeline.artifacts import read_json, sha256_of
from pipeline.competition import load_competition
from pipeline.models.pretrained import find_weights
from pipeline.stages.preprocess import INFERRED
from pipeline.stages.settings import Settings
from pipeline.training.recipes import make_recipe, recipe_fields, recipe_names
from pipeline.training.run import MADE_FROM, PSEUDO
from pipeline.workspace import Workspace

_TARGETS = {"temperature": "calibrate", "thresholds": "thresholds", "blend": "blend"}
_MAP_NAME = re.compile(r"\d+-seed(\d+)-[0-9a-f]+\.csv")


def command_again(workspace: Workspace, record: dict[str, Any]) -> str:
    """`make` with what differs from the defaults; a name of a saved recipe is without its folder.

    Where the fold map is gone, FOLD_SEED is not known and left out.
    """
    if MADE_FROM in record:
        return _derived(record)
    if PSEUDO in record:
        made = record[PSEUDO]
        return _make("pseudo", record, {"RUN": made["from"], "CONFIDENCE": made["confidence"]})
    network, asked = record["network"], dict(record["asked"])
    values = {
        "CONV": network["conv"],
        "MODEL": network["model"],
        "RECIPE": record["recipe"]["name"],
        "SIZE": _size(workspace, record),
        "FOLDS": record["folds"]["count"],
        "SEED": record["seed"],
        "FOLD_SEED": fold_seed(workspace, record) or 0,
        "EXECUTION": asked.pop("convolutions"),
        "WEIGHTS": _weights(workspace, record),
        "SET": " ".join(f"{name}={value}" for name, value in {**changed(record), **asked}.items()),
    }
    usual = Settings()
    chosen = {
        name: value for name, value in values.items() if value != getattr(usual, name.lower())
    }
    return _make("train", record, chosen)


def changed(record: dict[str, Any]) -> dict[str, Any]:
    """The fields of the recipe that are not those of its name; none of a saved recipe's."""
    recipe = record["recipe"]
    if recipe["name"] not in recipe_names():
        return {}
    own = make_recipe(recipe["name"])
    return {
        name: recipe[name]
        for name in recipe_fields()
        if name in recipe and recipe[name] != getattr(own, name)
    }


def fold_seed(workspace: Workspace, record: dict[str, Any]) -> int | None:
    """The seed in the name of the run's fold map, if it is still there."""
    for path in sorted(workspace.folds(record["competition"]).glob("*.csv")):
        named = _MAP_NAME.fullmatch(path.name)
        if named and sha256_of(path) == record["folds"]["sha256"]:
            return int(named[1])
    return None


def _weights(workspace: Workspace, record: dict[str, Any]) -> str:
    """The file that the run starts from; none where there is one now that it did not start from."""
    network = record["network"]
    if network["weights"]:
        return str(record.get("weights_file", "auto"))
    return "none" if find_weights(network["model"], [workspace.weights]) else "auto"


def _size(workspace: Workspace, record: dict[str, Any]) -> int:
    """The SIZE that the cache was made with; 0: as the definition says."""
    slug = record["competition"]
    path: Path = workspace.caches(slug) / record["cache"] / INFERRED
    size = read_json(path)["data"]["size"] if path.exists() else None
    usual = load_competition(slug, workspace.competition(slug)).data.size
    return 0 if size is None or size == usual else int(size)


def _derived(record: dict[str, Any]) -> str:
    choices = record["refinement"]
    names = ",".join(source["run"] for source in record[MADE_FROM])
    if choices["kind"] != "blend":
        return _make(_TARGETS[choices["kind"]], record, {"RUN": names})
    how = {} if choices["how"] == "greedy" else {"BLEND": choices["how"]}
    return _make("blend", record, {"RUNS": names, **how})


def _make(target: str, record: dict[str, Any], values: dict[str, Any]) -> str:
    pairs = {"COMPETITION": record["competition"], **values}
    if pairs["COMPETITION"] == Settings().competition:
        del pairs["COMPETITION"]
    words = [f"{name}={shlex.quote(str(value))}" for name, value in pairs.items()]
    return " ".join(["make", target, *words])
