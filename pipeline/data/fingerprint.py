"""What a raw folder holds, by content; unchanged files are not read a second time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.artifacts import MANIFEST, content_key, read_json, sha256_of, write_json
from pipeline.errors import DataError
from pipeline.reading import raise_error, read_errors


def file_hashes(raw: Path) -> dict[str, str]:
    """SHA-256 of every file below `raw`, by name, apart from our own manifest.

    Hashes are remembered beside the folder together with size and modification time.

    Raises:
        DataError: files are links to nothing.
        StorageError: a file or a folder may not be read, or the memory not written.
    """
    memory = _memory(raw)
    with read_errors(raw), _lost_links_named(raw):
        known = _remembered(memory)
        files = {path.relative_to(raw).as_posix(): path for path in _files(raw)}
        entries = {name: _entry(path, known.get(name)) for name, path in files.items()}
    if entries != known:
        write_json(memory, entries)
    return {name: entry[2] for name, entry in entries.items()}


def raw_fingerprint(raw: Path) -> str:
    """One hash of every file's name and content; hidden files, which no layout reads, left out."""
    hashes = file_hashes(raw)
    return content_key({name: value for name, value in hashes.items() if not _is_hidden(name)})


def known_fingerprint(raw: Path) -> str | None:
    """`raw_fingerprint` where no file has to be read for it, and nothing is written.

    None: there is no such folder, or a file in it is new or changed since the last look.

    Raises:
        DataError: files are links to nothing.
    """
    if not raw.is_dir():
        return None
    with read_errors(raw), _lost_links_named(raw):
        known = _remembered(_memory(raw))
        hashes = {}
        for path in _files(raw):
            name = path.relative_to(raw).as_posix()
            if _is_hidden(name):
                continue
            if not _is_unchanged(path, known.get(name)):
                return None
            hashes[name] = known[name][2]
    return content_key(hashes)


@contextmanager
def _lost_links_named(raw: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as err:
        lost = [path.relative_to(raw).as_posix() for path in _files(raw) if not path.exists()]
        if not lost:
            raise
        raise DataError(
            f"{raw}: {len(lost)} files are links to nothing, first {lost[0]!r}; mount the disk "
            "that they are on, or remove the links"
        ) from err


def _is_hidden(name: str) -> bool:
    """Whether a file, or a folder on the way to it, is hidden, as what file managers leave is."""
    return any(part.startswith(".") for part in name.split("/"))


def _memory(raw: Path) -> Path:
    return raw.parent / ".raw-index.json"


def _entry(path: Path, known: list[Any] | None) -> list[Any]:
    """Size, modification time and SHA-256 of a file; the last is read only where it is not known.

    Raises:
        OSError: the file may not be read.
    """
    if known is not None and _is_unchanged(path, known):
        return known
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, sha256_of(path)]


def _is_unchanged(path: Path, known: list[Any] | None) -> bool:
    status = path.stat()
    return known is not None and known[:2] == [status.st_size, status.st_mtime_ns]


def _remembered(memory: Path) -> dict[str, list[Any]]:
    try:
        known = read_json(memory)
    except DataError:  # missing or damaged: everything is read again
        return {}
    return known if isinstance(known, dict) else {}


def _files(raw: Path) -> list[Path]:
    found = []
    for folder, _, names in os.walk(raw, onerror=raise_error):
        found += [Path(folder) / name for name in names]
    return sorted(path for path in found if path != raw / MANIFEST)
