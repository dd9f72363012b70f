"""A finished session's files. They were written by foreign code: nothing in there is followed."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One output file: its path inside the output folder, where it lies, its size in bytes."""

    name: str
    path: Path
    size: int


def keep_regular_files(folder: Path) -> None:
    """Remove links, sockets and the like, and names that no reply can carry; open the rest."""
    folder.chmod(0o700)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                path.chmod(0o700)
            elif stat.S_ISREG(mode) and _is_unicode(name):
                path.chmod(0o600)
            else:
                path.unlink()


def remove(folder: Path) -> None:
    """Remove a folder whose own permissions may forbid it."""
    if folder.is_dir():
        keep_regular_files(folder)
        shutil.rmtree(folder)


def output_files(folder: Path) -> list[OutputFile]:
    """Every file of an output folder, by name."""
    found = (path for path in folder.rglob("*") if path.is_file())
    files = (
        OutputFile(path.relative_to(folder).as_posix(), path, path.stat().st_size)
        for path in found
        if _is_unicode(str(path))
    )
    return sorted(files, key=lambda file: file.name)


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
