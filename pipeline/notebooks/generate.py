"""From the package's sources and a run's settings to a folder that `kaggle kernels push` takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pipeline.competition import load_competition
from pipeline.models.pretrained import weights_slug
from pipeline.models.registry import model_module
from pipeline.notebooks.compose import compose, template_source
from pipeline.notebooks.definition import definition_toml
from pipeline.notebooks.files import KernelFiles, notebook_bytes
from pipeline.notebooks.metadata import METADATA, kernel_metadata
from pipeline.notebooks.modules import ENTRIES, PACKAGE, needed_modules
from pipeline.notebooks.slugs import compare_slug, kernel_slug

SHIPPED = PACKAGE / "competitions"  # holds no competition.toml: the package's definition alone


class Choices(Protocol):
    """What a notebook is generated for; `pipeline.stages.settings.Settings` is one."""

    @property
    def competition(self) -> str: ...
    @property
    def conv(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def recipe(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def folds(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def fold_seed(self) -> int: ...
    @property
    def execution(self) -> str: ...
    @property
    def set(self) -> str: ...


def variant_kernel(choices: Choices, definition: Path = SHIPPED, weights: str = "") -> KernelFiles:
    """The kernel that trains one variant and writes its submission.

    `definition` is the folder of the user's own competition.toml, if there is one. `weights` is
    the SHA-256 of the weights to start from, which the owner's dataset of them holds.

    Raises:
        ConfigError: the notebook reaches 1 MB, or Kaggle would not take the slug.
    """
    slug = kernel_slug(choices.competition, choices.conv)
    parameters = {"CONV": choices.conv, **_shared(choices, weights)}
    return _kernel(slug, "variant.py", parameters, definition)


def compare_kernel(
    choices: Choices, convs: Sequence[str], definition: Path = SHIPPED, weights: str = ""
) -> KernelFiles:
    """The kernel that trains several convolutions and submits the best by cross-validation.

    `definition`, `weights` and the errors are those of `variant_kernel`.
    """
    slug = compare_slug(choices.competition)
    parameters = {"CONVS": list(convs), **_shared(choices, weights)}
    return _kernel(slug, "compare.py", parameters, definition)


def _shared(choices: Choices, weights: str) -> dict[str, Any]:
    return {
        "COMPETITION": choices.competition,
        "MODEL": choices.model,
        "RECIPE": choices.recipe,
        "SIZE": choices.size,
        "FOLDS": choices.folds,
        "SEED": choices.seed,
        "FOLD_SEED": choices.fold_seed,
        "EXECUTION": choices.execution,
        "SET": choices.set,
        "WEIGHTS": weights,
    }


def _kernel(
    slug: str, template_name: str, parameters: dict[str, Any], definition: Path
) -> KernelFiles:
    competition = load_competition(parameters["COMPETITION"], definition)
    template = template_source(template_name)
    toml = {f"pipeline/competitions/{competition.slug}.toml": definition_toml(competition)}
    modules = {**needed_modules([*ENTRIES, model_module(parameters["MODEL"])]), **toml}
    made_from = json.dumps([template, modules, parameters], sort_keys=True)
    story = {
        "title": competition.title or competition.slug,
        "sources": hashlib.sha256(made_from.encode()).hexdigest(),
    }
    notebook = compose(template, parameters, modules, story)
    datasets = [weights_slug(parameters["MODEL"])] if parameters["WEIGHTS"] else []
    metadata = json.dumps(kernel_metadata(slug, competition.slug, datasets), indent=2) + "\n"
    return KernelFiles(
        slug,
        {f"{slug}.ipynb": notebook_bytes(notebook), METADATA: metadata.encode()},
    )
