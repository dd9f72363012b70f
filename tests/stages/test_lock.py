"""One command at a time in a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import BusyError
from pipeline.stages.lock import only_command
from pipeline.workspace import Workspace

_HOLD = """
import sys, time
from pathlib import Path
from pipeline.stages.lock import only_command
from pipeline.workspace import Workspace
with only_command(Workspace(root=Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _HOLD, str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_second_command_is_told_who_is_first(tmp_path: Path) -> None:
    with only_command(Workspace(root=tmp_path)):
        second = subprocess.run(
            [sys.executable, "-c", _HOLD, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "BusyError: another command" in second.stderr
    assert f"(process {os.getpid()})" in second.stderr


def test_lock_is_free_again_after_the_command(tmp_path: Path) -> None:
    for _ in range(2):
        with only_command(Workspace(root=tmp_path)):
            pass


def test_killed_command_frees_the_lock(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=rf"process {holder.pid}"), only_command(workspace):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with only_command(workspace):
        pass


def test_holder_is_not_named_before_it_wrote_its_number(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path)
    with only_command(workspace):
        (tmp_path / "data" / ".lock.pid").unlink()
        second = subprocess.run(
            [sys.executable, "-c", _HOLD, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "another command works in" in second.stderr
