"""What made a run is noted, whatever git does."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from pipeline.stages.provenance import COMMIT_VARIABLE, provenance


def test_a_git_that_does_not_answer_in_time_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder of millions of files on a slow disk."""
    run = subprocess.run

    def with_a_slow_git(command: list[str], **options: Any) -> Any:
        if command[0] == "git":
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", with_a_slow_git)
    monkeypatch.delenv(COMMIT_VARIABLE, raising=False)

    made_by = provenance()

    assert (made_by["commit"], made_by["modified"]) == (None, False)
    assert made_by["versions"]["torch"]
