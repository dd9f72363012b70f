"""Artefacts appear whole; what cannot be written says why in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifacts import (
    resumable_folder,
    unfinished_folder,
    verify_manifest,
    whole_folder,
    write_json,
    write_whole,
)
from pipeline.errors import StorageError
from pipeline.stages.lock import only_command
from pipeline.workspace import Workspace


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


def hold_the_lock(root: Path) -> None:
    with only_command(Workspace(root=root)):
        pass


def build_a_folder(root: Path) -> None:
    with whole_folder(root / "data/digits/raw"):
        pass


@pytest.mark.parametrize(
    "write", [hold_the_lock, build_a_folder, lambda root: write_json(root / "data/a/b.json", {})]
)
@pytest.mark.parametrize("is_link", [True, False])
def test_what_is_in_the_place_of_a_folder_is_named(
    tmp_path: Path, write: Callable[[Path], None], is_link: bool
) -> None:
    data = tmp_path / "data"
    if is_link:
        data.symlink_to("/disk-that-is-not-mounted/data")
    else:
        data.write_text("a file")
    with pytest.raises(StorageError, match=f"{data} is no folder, nor a link to one that is"):
        write(tmp_path)
