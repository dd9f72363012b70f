"""What the Makefile makes of its variables, without running it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("target", "switch", "option"),
    [
        ("submit", "FORCE", "--force"),
        ("push", "FORCE", "--force"),
        ("audit", "GROUP", "--group"),
        ("profile", "COMPILE", "--compile"),
    ],
)
def test_a_switch_set_to_zero_is_off(target: str, switch: str, option: str) -> None:
    for value, expected in (("1", True), ("0", False), ("", False)):
        assert (option in commands(target, f"{switch}={value}").split()) is expected


def test_a_misspelt_variable_is_refused() -> None:
    told = subprocess.run(
        [
            "make",
            "--no-print-directory",
            "--dry-run",
            "submit",
            "COMPETITON=digits",
            "CONV=separable",
        ],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )

    assert told.returncode == 2
    assert "COMPETITON is no variable; make help lists them" in told.stderr
    assert told.stdout == ""


def test_what_a_shell_exports_by_itself_is_no_variable_of_ours() -> None:
    """tcsh has HOST and GROUP in the environment, zsh may have HOST."""
    command = commands("audit", HOST="desk.example", GROUP="staff")

    assert "--host 'auto'" in command
    assert "--group" not in command.split()


def commands(*arguments: str, **environment: str) -> str:
    """What make would run."""
    return subprocess.run(
        ["make", "--dry-run", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
