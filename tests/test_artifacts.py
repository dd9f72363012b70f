"""What kills leave behind is no part of what the next build makes."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.artifacts import resumable_folder, unfinished_folder, verify_manifest, write_whole


def write_and_be_killed(path: Path) -> None:
    """In a process of its own, which dies ahead of the last step of `write_whole`."""
    child = os.fork()
    if not child:
        os.replace = lambda *_: os._exit(9)
        write_whole(path, b"half of it")
    os.waitpid(child, 0)


def test_a_write_that_was_killed_stays_in_no_finished_folder(tmp_path: Path) -> None:
    folder = tmp_path / "fold0"
    unfinished = unfinished_folder(folder)
    write_whole(unfinished / "checkpoint.pt", b"what it goes on with")
    write_and_be_killed(unfinished / "checkpoint.pt")
    assert len(list(unfinished.iterdir())) == 2

    with resumable_folder(folder, "checkpoint.pt") as building:
        assert (building / "checkpoint.pt").read_bytes() == b"what it goes on with"
        write_whole(building / "weights", b"all of it")

    verify_manifest(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "weights"]
