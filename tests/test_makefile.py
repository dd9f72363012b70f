"""What the Makefile makes of its variables, without running it."""

from __future__ import annotations

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


def commands(*arguments: str) -> str:
    """What make would run."""
    dry = ["make", "--dry-run", *arguments]
    return subprocess.run(dry, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
