"""The commands that make a run again, from its record, and that go on with one."""

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
        return _derived(workspace, record)
    if PSEUDO in record:
        made = record[PSEUDO]
        values = {"RUN": made["from"], "CONFIDENCE": made["confidence"]}
        return make_command(
            "pseudo", record["competition"], {**values, "SIZE": _size(workspace, record)}
        )
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
    return make_command("train", record["competition"], values)


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


def _derived(workspace: Workspace, record: dict[str, Any]) -> str:
    choices, slug = record["refinement"], record["competition"]
    names, size = ",".join(source["run"] for source in record[MADE_FROM]), _size(workspace, record)
    if choices["kind"] != "blend":
        return make_command(_TARGETS[choices["kind"]], slug, {"RUN": names, "SIZE": size})
    how = {} if choices["how"] == "greedy" else {"BLEND": choices["how"]}
    return make_command("blend", slug, {"RUNS": names, **how, "SIZE": size})


def next_command(target: str, settings: Settings, values: dict[str, Any]) -> str:
    """`make_command` of what may follow: of images of the same size, and at the same host."""
    same = {"SIZE": settings.size, "HOST": settings.host}
    return make_command(target, settings.competition, {**values, **same})


def make_command(target: str, competition: str, values: dict[str, Any]) -> str:
    """`make` of the target, with the variables that are not as usual."""
    usual, pairs = Settings(), {"COMPETITION": competition, **values}
    words = [
        f"{name}={shlex.quote(str(value))}"
        for name, value in pairs.items()
        if value != getattr(usual, name.lower(), None)
    ]
    return " ".join(["make", target, *words])
