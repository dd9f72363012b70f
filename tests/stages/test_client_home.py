"""A killed command's home folder is gone after the next command; one in use stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline.stages.client_home import client_home
from tests.stages.commands import REPOSITORY

_HOLD = """
import sys
from pathlib import Path
from pipeline.stages.client_home import client_home
with client_home(Path(sys.argv[1])) as home:
    (home / "config").write_text("x")
    print(home, flush=True)
    sys.stdin.read()
"""


def test_homes_of_killed_commands_are_removed(tmp_path: Path) -> None:
    parent = tmp_path / "state" / "homes"
    command = [sys.executable, "-c", _HOLD, str(parent)]
    holders = [
        subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    homes = [Path(holder.stdout.readline().strip()) for holder in holders if holder.stdout]
    holders[0].kill()
    holders[0].wait()
    assert homes[0].exists()
    with client_home(parent) as mine:
        assert set(parent.iterdir()) == {mine, homes[1]}
        assert not list(mine.iterdir())
    holders[1].communicate()
    assert not list(parent.iterdir())
