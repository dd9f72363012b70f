"""The walls between the rooms, as the README draws them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {
    "errors": 0,
    "reading": 0,
    "artifacts": 0,
    "native": 0,
    "competition": 0,
    "competitions": 0,
    "workspace": 0,
    "convs": 0,
    "metrics": 0,
    "models": 1,
    "data": 1,
    "pages": 1,
    "training": 2,
    "refine": 2,
    "audit": 2,
    "report": 2,
    "client": 2,
    "host": 2,
    "notebooks": 2,
    "profiling": 2,
    "stages": 3,
    "studies": 4,
    "commands": 5,
    "__main__": 6,
}
KERNEL_ROOMS = ("convs", "metrics", "models", "data", "training")
KERNEL_STAGES = (
    "preprocess",
    "train",
    "side_by_side",
    "fold_map",
    "network",
    "decisions",
    "predict",
    "submission",
    "kernel",
    "starting_weights",
)
SLOW_PACKAGES = ("sklearn", "scipy", "matplotlib", "timm", "torchvision", "fastapi", "uvicorn")
LAPTOP_PACKAGES = (
    "kaggle",
    "kagglesdk",
    "tyro",
    "rich",
    "stamina",
    "filelock",
    "platformdirs",
    "fastapi",
    "uvicorn",
    "pydantic",
    "jupytext",
    "nbformat",
    "nbclient",
    "jinja2",
)


def room(path: Path) -> str:
    """The room a module stands in: the first name below the package.

    A notebook's template is a program that calls stages, like the command line.
    """
    if "templates" in path.parts:
        return "commands"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms of this project that a module imports, at any depth of nesting."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return {name.split(".")[1] for name in names if name.startswith("pipeline.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_no_room_imports_a_higher_floor_or_another_room_beside_it(path: Path) -> None:
    own = room(path)
    if own == "__init__":
        return
    for other in imported_rooms(path) - {own}:
        below = FLOORS[other] < FLOORS[own]
        ground = FLOORS[other] == FLOORS[own] == 0
        assert below or ground, f"{own} (floor {FLOORS[own]}) imports {other}"


def test_the_kernel_ring_runs_without_the_laptop_ring() -> None:
    """What a pushed notebook imports works where only Kaggle's image is installed."""
    modules = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if room(path) in KERNEL_ROOMS or (room(path) == "stages" and path.stem in KERNEL_STAGES)
    ]
    script = (
        "import importlib, sys\n"
        f"for name in {LAPTOP_PACKAGES!r}: sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(len(sys.modules))"
    )

    result = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr


def test_a_command_loads_no_slow_package_before_it_needs_it() -> None:
    """Every command, and every process that a command starts, would begin a second later."""
    commands = "pipeline.stages.chain, pipeline.stages.status"
    script = f"import sys, {commands}; print({{*{SLOW_PACKAGES!r}}} & {{*sys.modules}})"

    result = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert result.stdout == "set()\n"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_files_and_functions_stay_small_enough_to_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


def test_the_top_level_is_the_one_that_the_readme_promises() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    visible = {name.split("/")[0] for name in tracked if not name.startswith(".")}

    assert visible <= {
        "pipeline",
        "data",
        "submissions",
        "kernels",
        "tests",
        "Makefile",
        "README.md",
        "pyproject.toml",
        "requirements.txt",
    }
