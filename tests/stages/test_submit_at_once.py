"""The same submit started several times at once: one upload, and every other command says why."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.client.ledger import Ledger
from pipeline.errors import BusyError
from pipeline.host.state import STATE_VARIABLE, State
from tests.stages.commands import Command

OPTIONS = (
    *("--competition", "digits", "--folds", "2", "--recipe", "smoke"),
    *("--model", "nntrain-cnn", "--set", "compile=off threads=1"),
)


@pytest.mark.parametrize("commands", [3, pytest.param(10, marks=pytest.mark.soak)])
def test_commands_at_once_upload_once(
    command: Command,
    tmp_path: Path,
    commands: int,
    record_property: Callable[[str, object], None],
) -> None:
    state = State(tmp_path / "state")
    environment = {STATE_VARIABLE: str(state.folder)}
    ready = command("submission", *OPTIONS, **environment)
    assert ready.code == 0, ready.errors

    with ThreadPoolExecutor(commands) as pool:
        started = [pool.submit(command, "submit", *OPTIONS, **environment) for _ in range(commands)]
        outcomes = [future.result() for future in started]

    refused = [outcome for outcome in outcomes if outcome.code]
    record_property("cases", commands)
    record_property("told to wait", len(refused))
    assert len(refused) < commands
    for outcome in refused:
        assert outcome.code == BusyError.exit_code, outcome.errors
        assert "another command" in outcome.errors.splitlines()[-1]
    lines = (tmp_path / "submissions/ledger.jsonl").read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    (upload,) = Ledger(tmp_path / "submissions/ledger.jsonl").uploads()
    with sqlite3.connect(state.folder / "host.sqlite3") as database:
        assert database.execute("SELECT ref, status FROM submissions").fetchall() == [
            (upload.ref, "COMPLETE")
        ]
    database.close()
