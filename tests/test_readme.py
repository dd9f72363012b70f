"""Every command of the README is run, on a small competition where it would take long."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.host.lifecycle import local_host
from tests.stages.commands import Outcome, start_command, write_digit_images

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SMALL = "COMPETITION=digits FOLDS=2 RECIPE=smoke"
TINY = f"{SMALL} MODEL=nntrain-cnn"

# What is appended to a command to make it small; None: it has a test of its own below.
COMMANDS: dict[str, str | None] = {
    "make submit CONV=subkernel": SMALL,
    "make submit CONV=channel-selection": TINY,
    "make submit COMPETITION=digits": SMALL,
    "make submit RECIPE=strong MODEL=resnet14x2": "COMPETITION=digits FOLDS=2 SET='epochs=1'",
    "make submission COMPETITION=my-competition": "FOLDS=2 RECIPE=smoke MODEL=nntrain-cnn",
    "make push CONV=subkernel": SMALL,
    "make kernels": "",
    "make summary MODEL=resnet18 CONV=channel-selection": "",
    "make export COMPETITION=digits": "FOLDS=2 RECIPE=smoke",
    "make profile MODELS=resnet14 CONVS=subkernel,channel-selection": (
        "MODELS=mnist-net CONVS=subkernel"
    ),
    "make train SET='epochs=40 max_shift=0.125' BUDGET=2h": TINY.replace(
        "RECIPE=smoke", "SET='epochs=1 compile=off'"
    ),
    "make lr-find RECIPE=quick": "COMPETITION=digits",
    "make bench": None,
    "make sweep CONVS=subkernel,channel-selection SEEDS=0,1,2": f"{TINY} SEEDS=0,1",
    "make train LAUNCH=ddp": f"{TINY} LAUNCH=ddp SEED=2",
    "make train COMPETITION=photo-pieces SIZE=64": "SIZE=16 FOLDS=2 RECIPE=smoke MODEL=nntrain-cnn",
    "make audit COMPETITION=digits": "FOLDS=2",
    "make sweep COMPETITION=digits CONVS=subkernel,channel-selection,separable": (
        "FOLDS=2 RECIPE=smoke MODEL=nntrain-cnn"
    ),
    "make blend COMPETITION=digits": "FOLDS=2",
    "make submit COMPETITION=digits RUN=<name>": None,
    "make select COMPETITION=digits": "",
    "make status": "COMPETITION=digits",
    "make verify COMPETITION=digits": "",
    "make report COMPETITION=digits": "FOLDS=2 RECIPE=smoke",
    "make report COMPETITION=digits RUNS=all": "FOLDS=2 RECIPE=smoke",
    "make reproduce STUDY=channel-selection": "STUDY=from-scratch SCALE=smoke",
    "make help": "",
    "make ledger": "",
    "make test": None,
    "make host": None,
}
BY_MAKE = ("make submit CONV=subkernel", "make help")
FORKED = [name for name, extra in COMMANDS.items() if extra is not None and name not in BY_MAKE]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project with this interpreter's packages, and one competition by hand.

    The host that most commands need runs already; else each would start one.
    """
    root = tmp_path_factory.mktemp("project")
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy2(REPOSITORY / name, root / name)
    shutil.copytree(
        REPOSITORY / "pipeline", root / "pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    (root / ".venv").symlink_to(sys.prefix)
    write_digit_images(root / "data/my-competition/raw")
    with local_host("digits"):
        yield root


def make(checkout: Path, command: str) -> list[str]:
    """The command, with the packages taken as installed."""
    return [*shlex.split(command), "-C", str(checkout), "--old-file=.venv/installed"]


def run(checkout: Path, command: str) -> Outcome:
    """Run what make says that it would run, without a new Python's imports for each."""
    printed = subprocess.run(
        [*make(checkout, command), "-n", "--no-print-directory"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    program, module, package, *arguments = shlex.split(printed)
    assert [program, module, package] == [".venv/bin/python", "-m", "pipeline"]
    return start_command(checkout, arguments).outcome()


def test_every_command_of_the_readme_is_known_here() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    commands = {line for block in blocks for line in block.splitlines() if line}

    assert commands == set(COMMANDS)


@pytest.mark.parametrize("command", BY_MAKE)
def test_make_runs_the_command(checkout: Path, command: str) -> None:
    result = subprocess.run(
        make(checkout, f"{command} {COMMANDS[command]}"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


@pytest.mark.parametrize("command", FORKED)
def test_the_command_works(checkout: Path, command: str) -> None:
    if command.startswith("make push") and not shutil.which("bwrap"):
        pytest.skip("kernels run in bubblewrap, which is not installed")

    outcome = run(checkout, f"{command} {COMMANDS[command]}")

    assert outcome.code == 0, outcome.errors
    assert outcome.output.strip()


def test_a_blend_is_submitted_by_its_name(checkout: Path) -> None:
    """The sweep above trained its members."""
    for made in (f"make sweep {TINY} CONVS=subkernel,separable", f"make blend {TINY}"):
        assert run(checkout, made).code == 0
    blend = next((checkout / "submissions/digits").glob("blend-*"))

    outcome = run(checkout, f"make submit COMPETITION=digits RUN={blend.name} FORCE=1")

    assert outcome.code == 0, outcome.errors
    assert "private" in outcome.output


def test_make_test_lints_types_and_tests(checkout: Path) -> None:
    """Only looked at: running it from a test would never end."""
    result = subprocess.run(
        make(checkout, "make -n test"), capture_output=True, text=True, check=True
    )

    for tool in ("ruff check", "ruff format --check", "mypy", "pytest"):
        assert tool in result.stdout


def test_make_host_prints_an_environment_for_the_plain_kaggle_command(
    checkout: Path, tmp_path: Path
) -> None:
    host = subprocess.Popen(
        make(checkout, "make host"),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PIPELINE_HOST_STATE": str(tmp_path / "state")},
    )
    try:
        assert host.stdout is not None
        lines = []
        while "PIPELINE_HOST_STATE" not in (line := host.stdout.readline()):
            assert line, "the host ended before it printed its environment"
            lines.append(line)
        kaggle = Path(sys.executable).with_name("kaggle")
        script = "".join(lines) + f"{kaggle} competitions files digits"
        result = subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, check=False, timeout=120
        )
    finally:
        os.killpg(host.pid, signal.SIGINT)
        host.wait(timeout=30)

    assert result.returncode == 0, result.stderr
    assert "sample_submission.csv" in result.stdout


def test_the_help_names_every_target_and_variable(checkout: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    variables = re.findall(r"^([A-Z_]+) \??=.*##", makefile, flags=re.MULTILINE)

    printed = subprocess.run(
        make(checkout, "make help"), capture_output=True, text=True, check=True
    ).stdout

    shown = {line.split()[0] for line in printed.splitlines() if line.startswith("  ")}
    assert shown == set(phony.split()) | set(variables)


def test_the_results_are_filled_in() -> None:
    assert "RESULTS_TABLE" not in README
    assert "| dog-vs-cat-vs-bird | `make submit CONV=subkernel` | 0." in README
