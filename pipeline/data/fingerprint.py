"""What a raw folder holds, by content; unchanged files are not read a second time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.artifacts import MANIFEST, content_key, read_json, sha256_of, write_json
from pipeline.errors import DataError


def file_hashes(raw: Path) -> dict[str, str]:
    """SHA-256 of every file below `raw`, by name, apart from our own manifest.

    Hashes are remembered beside the folder together with size and modification time.
    """
    memory = raw.parent / ".raw-index.json"
    known = _remembered(memory)
    index = {}
    for path in _files(raw):
        name, status = path.relative_to(raw).as_posix(), path.stat()
        entry = known.get(name)
        if entry is None or entry[:2] != [status.st_size, status.st_mtime_ns]:
            entry = [status.st_size, status.st_mtime_ns, sha256_of(path)]
        index[name] = entry
    if index != known:
        write_json(memory, index)
    return {name: entry[2] for name, entry in index.items()}


def raw_fingerprint(raw: Path) -> str:
    """One hash of every file's name and content."""
    return content_key(file_hashes(raw))


def _remembered(memory: Path) -> dict[str, list[Any]]:
    try:
        known = read_json(memory)
    except DataError:  # missing or damaged: everything is read again
        return {}
    return known if isinstance(known, dict) else {}


def _files(raw: Path) -> list[Path]:
    found = []
    for folder, _, names in os.walk(raw):
        found += [Path(folder) / name for name in names]
    return sorted(path for path in found if path != raw / MANIFEST)
