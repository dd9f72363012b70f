"""Files and folders that appear whole or not at all, and the hashes that name them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, StorageError

MANIFEST = "manifest.json"
_STORAGE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_key(value: Any, length: int = 12) -> str:
    """A short name for what made an artefact: the hash of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full or unwritable disk met while writing `path` into one clear line.

    Raises:
        StorageError: the disk is full, the folder is read-only, or something else in its place.
    """
    try:
        yield
    except OSError as err:
        if blocking := _in_place_of_a_folder(err):
            raise StorageError(
                f"cannot write {path}: {blocking} is no folder, nor a link to one that is there; "
                "mend that and rerun"
            ) from err
        if err.errno not in _STORAGE_ERRNOS:
            raise
        raise StorageError(_storage_message(path, err)) from err


def _in_place_of_a_folder(err: OSError) -> Path | None:
    """The file, or the link to a disk that is not mounted, that kept a folder from being made."""
    if err.errno not in {errno.EEXIST, errno.ENOTDIR} or not isinstance(err.filename, str):
        return None
    wanted = Path(err.filename)
    for path in (*reversed(wanted.parents), wanted):
        if os.path.lexists(path) and not path.is_dir():
            return path
    return None


def _storage_message(path: Path, err: OSError) -> str:
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if err.errno in {errno.ENOSPC, errno.EDQUOT}:
        free = shutil.disk_usage(folder).free / 2**20
        return f"disk full while writing {path} ({free:.0f} MiB left); free some space and rerun"
    return f"cannot write {path}: {err.strerror}; make {folder} writable and rerun"


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        StorageError: the disk is full, or the folder is read-only.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def user_cache_folder() -> Path:
    """Where this user's machine keeps what can be made again: PIPELINE_CACHE, or below ~/.cache."""
    if given := os.environ.get("PIPELINE_CACHE"):
        return Path(given)
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user) / "kaggle-image-pipeline"


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole."""
    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as err:
        raise DataError(f"{path} is missing; delete {path.parent} and rerun") from err
    except ValueError as err:
        raise DataError(f"{path} is not JSON ({err}); delete {path.parent} and rerun") from err


@contextmanager
def whole_folder(path: Path, source: dict[str, str] | None = None) -> Iterator[Path]:
    """Build a folder beside `path`; on success write its manifest and move it there, replacing.

    `source` goes into the manifest: where the files came from.

    A killed build leaves only a hidden `.partial` folder, which the next build removes.

    Raises:
        StorageError: the disk is full, or the folder is read-only.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partials(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.mkdir()
        try:
            yield partial
            write_manifest(partial, source)
            replace_folder(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def resumable_folder(path: Path, checkpoint: str) -> Iterator[Path]:
    """As `whole_folder`, but what a stopped build wrote is kept, and the next one goes on with it.

    The file `checkpoint` is what it goes on with, and no part of the folder. It is removed last: a
    kill ahead of that costs none of the work that is in it.

    Raises:
        StorageError: the disk is full, or the folder is read-only.
    """
    with storage_errors(path):
        unfinished = unfinished_folder(path)
        unfinished.mkdir(parents=True, exist_ok=True)
        (unfinished / MANIFEST).unlink(missing_ok=True)  # of a build that was killed at its end
        for cut in unfinished.glob(".*.partial"):  # by a kill in `write_whole`
            cut.unlink()
        yield unfinished
        write_manifest(unfinished, left_out=checkpoint)
        replace_folder(unfinished, path)
        (path / checkpoint).unlink(missing_ok=True)


def unfinished_folder(path: Path) -> Path:
    """Where `resumable_folder` builds `path`."""
    return path.with_name(f"{path.name}.unfinished")


def remove_partials(path: Path) -> None:
    """Remove what killed builds of `path` left behind; call it while no other build runs."""
    for left_over in path.parent.glob(f".{path.name}.*.partial"):
        shutil.rmtree(left_over, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Move the finished folder `new` to `path`; an older one there is removed afterwards."""
    old = path.with_name(f".{path.name}.old.{os.getpid()}.partial")
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def write_manifest(
    folder: Path, source: dict[str, str] | None = None, left_out: str = MANIFEST
) -> None:
    """Record size and SHA-256 of every file under `folder`; written last, it marks completion."""
    files = {
        file.relative_to(folder).as_posix(): {
            "size": file.stat().st_size,
            "sha256": sha256_of(file),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file not in (folder / MANIFEST, folder / left_out)
    }
    origin = {"source": source} if source else {}
    write_json(folder / MANIFEST, {"files": files, **origin})


def is_complete(folder: Path) -> bool:
    """Whether the folder was finished (its manifest is written last) and no file was cut since."""
    if not (folder / MANIFEST).is_file():
        return False
    files = read_json(folder / MANIFEST)["files"]
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == expected["size"]
        for name, expected in files.items()
    )


def verify_manifest(folder: Path) -> None:
    """Compare every file with the folder's manifest.

    Raises:
        DataError: a file is missing or differs; names how many and the first.
    """
    wrong = [
        name
        for name, expected in read_json(folder / MANIFEST)["files"].items()
        if not (folder / name).is_file()
        or (folder / name).stat().st_size != expected["size"]
        or sha256_of(folder / name) != expected["sha256"]
    ]
    if wrong:
        raise DataError(
            f"{folder}: {len(wrong)} files differ from the manifest, first {wrong[0]!r}; "
            "delete the folder and rerun"
        )
