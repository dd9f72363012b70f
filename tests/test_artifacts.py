"""Artefacts appear whole; what cannot be written says why in one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifacts import (
    MANIFEST,
    content_key,
    is_complete,
    read_json,
    resumable_folder,
    storage_errors,
    unfinished_folder,
    verify_manifest,
    whole_folder,
    write_json,
    write_whole,
)
from pipeline.errors import DataError, StorageError
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


def test_the_manifest_of_a_build_that_was_killed_at_its_end_is_not_that_of_the_next(
    tmp_path: Path,
) -> None:
    unfinished = unfinished_folder(tmp_path / "fold0")
    write_whole(unfinished / MANIFEST, b"{}")

    with resumable_folder(tmp_path / "fold0", "checkpoint.pt") as building:
        assert not (building / MANIFEST).exists()


def test_bytes_are_on_the_disk_before_they_have_the_files_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a machine that crashes may leave an empty file in place of the old one."""
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, f=real: (done.append(n), f(*a)))

    write_whole(tmp_path / "ledger.jsonl", b"{}")

    assert done == ["fsync", "replace"]


def test_a_write_that_fails_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "run.json"
    write_whole(path, b"old")
    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(OSError, match="Input/output error"):
        write_whole(path, b"new")

    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


def build(folder: Path, content: str, killed: bool = False) -> None:
    """A folder with one file; or what is there of it where the build is `killed` at its end."""
    with whole_folder(folder, source={"host": "local"}) as partial:
        (partial / "data.csv").write_text(content)
        if killed:
            os._exit(9)


def test_a_folder_is_replaced_by_one_that_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    build(folder, "old")
    child = os.fork()
    if not child:
        build(folder, "half", killed=True)
    os.waitpid(child, 0)
    assert len([*tmp_path.iterdir()]) == 2

    with pytest.raises(ZeroDivisionError), whole_folder(folder):
        raise ZeroDivisionError
    assert [*tmp_path.iterdir()] == [folder]
    assert (folder / "data.csv").read_text() == "old"

    build(folder, "new")
    assert [*tmp_path.iterdir()] == [folder]
    assert (folder / "data.csv").read_text() == "new"
    assert read_json(folder / MANIFEST)["source"] == {"host": "local"}


@pytest.mark.parametrize("step", ["write_manifest", "replace_folder"])
def test_a_folder_that_is_there_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    folder = tmp_path / "raw"
    build(folder, "old")
    monkeypatch.setattr(f"pipeline.artifacts.{step}", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        build(folder, "new")

    assert (folder / "data.csv").read_text() == "old"
    assert is_complete(folder)


@pytest.mark.parametrize(
    ("damage", "is_seen_at_once"),
    [
        (lambda path: path.write_text("01234"), True),
        (lambda path: path.unlink(), True),
        (lambda path: path.write_text("012345678X"), False),
    ],
)
def test_what_was_cut_is_seen_by_its_size_and_what_was_changed_by_its_hash(
    tmp_path: Path, damage: Callable[[Path], object], is_seen_at_once: bool
) -> None:
    folder = tmp_path / "raw"
    assert not is_complete(folder)
    build(folder, "0123456789")
    assert is_complete(folder)
    verify_manifest(folder)

    damage(folder / "data.csv")

    assert is_complete(folder) != is_seen_at_once
    with pytest.raises(DataError, match=r"1 files differ from the manifest, first 'data\.csv'"):
        verify_manifest(folder)


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM]
)
def test_a_disk_that_takes_nothing_is_told_in_one_line(tmp_path: Path, number: int) -> None:
    """EPERM is what a file answers that was made immutable."""
    path = tmp_path / "run.json"
    with pytest.raises(StorageError, match=r"run\.json"), storage_errors(path):
        raise OSError(number, os.strerror(number))


def test_a_key_is_of_what_is_said_not_of_the_order_in_which() -> None:
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1}) != content_key({"a": 1})


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
