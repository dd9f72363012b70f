"""Safe extraction of a competition's archives, also of archives inside archives.

Extraction is all or nothing: members go to a hidden folder first and are moved into place when
the last one was read. Links, devices, names that leave the folder and bombs are refused.
"""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from pipeline.artifacts import storage_errors
from pipeline.data.archive_members import (
    CHUNK,
    Member,
    damage_reported,
    is_archive,
    read_members,
    without_suffix,
)
from pipeline.errors import DataError
from pipeline.reading import read_errors

MAX_BYTES = 2**40
MAX_FILES = 20_000_000
# Real data stays below 100; a bomb is above 1,000. Small archives may expand to the floor anyway.
MAX_RATIO = 200
RATIO_FLOOR_BYTES = 64 * 2**20
MAX_DEPTH = 4

_LEFT_BY_DESKTOPS = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"}
_WHOLE = ".whole"  # ends the name of a folder of all that an archive holds
_UNUSABLE_NAME_ERRNOS = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}


def extract_archive(archive: Path, into: Path) -> None:
    """Extract `archive` and the archives inside it to the folder `into`.

    A nested `train.zip` becomes a folder `train/` beside it, or, when it holds one single entry
    of that name, that entry; the nested archive itself is not kept.

    Raises:
        DataError: the archive is damaged, unsafe, or of an unknown kind; nothing is left.
        StorageError: the disk is full, the folder cannot be written or the archive may not be
            read; nothing is left.
    """
    with storage_errors(into), _created(into), _staging(into) as staging:
        _unpack(archive, staging, archive.name, _Budget(archive), depth=0)
        _move_into(staging, into, archive.name)


def unpack_archives(folder: Path) -> list[str]:
    """Replace every archive under `folder` by its content, as inside a nested archive.

    An archive that is the only thing in `folder` is extracted straight into it. Returns the names
    of the archives that were replaced.

    Raises:
        DataError: as `extract_archive`; the archive stays where it was.
        StorageError: as `extract_archive`.
    """
    _remove_cut(folder)
    with read_errors(folder):
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    begun = [folder / path.name[1:].removesuffix(_WHOLE) for path in folder.glob(f".*{_WHOLE}")]
    if begun or (len(entries) == 1 and is_archive(entries[0])):
        only = (begun or entries)[0]
        with storage_errors(folder):
            _replace_beside_nothing(only)
        return [only.name]
    found = _archives_under(folder)
    for archive in found:
        name = archive.relative_to(folder).as_posix()
        with storage_errors(archive.parent):
            _replace_by_content(archive, name, _Budget(archive), depth=0)
    return [archive.relative_to(folder).as_posix() for archive in found]


class _Budget:
    """What the outermost archive may still expand to, nested archives included."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive.name
        size = archive.stat().st_size if archive.exists() else 0
        self._bytes = min(MAX_BYTES, max(RATIO_FLOOR_BYTES, MAX_RATIO * size))
        self._files = MAX_FILES

    def take(self, size: int) -> None:
        self._bytes -= size
        if self._bytes < 0:
            raise DataError(
                f"{self._archive} expands to more than {MAX_RATIO} times its size; it looks like "
                "a decompression bomb: nothing was kept, unpack it by hand if you trust it"
            )

    def take_entry(self) -> None:
        self._files -= 1
        if self._files < 0:
            raise DataError(
                f"{self._archive} holds more than {MAX_FILES} entries; nothing was kept, "
                "unpack it by hand if you trust it"
            )


class _Names:
    """The entries seen so far, to refuse two that would become one file on some disk."""

    def __init__(self, archive: str) -> None:
        self._archive = archive
        self._seen: dict[str, tuple[str, bool]] = {}

    def add(self, parts: tuple[str, ...], is_file: bool) -> None:
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            entry = (path, is_file and depth == len(parts))
            known = self._seen.setdefault(unicodedata.normalize("NFC", path).casefold(), entry)
            if known[0] != path:
                raise DataError(
                    f"{self._archive}: {known[0]!r} and {path!r} are one file on a disk that "
                    "ignores case; rename one of them in the archive"
                )
            if known is not entry and (known[1] or entry[1]):
                raise DataError(
                    f"{self._archive}: {path!r} appears twice; remove one of them from the archive"
                )


def _unpack(archive: Path, into: Path, label: str, budget: _Budget, depth: int) -> None:
    """Write all members of one archive to the empty folder `into`, then unpack those inside it."""
    with read_errors(archive):
        archive.open("rb").close()  # what fails below for want of a permission is the writing
    with damage_reported(label):
        _write_members(read_members(archive, label), into, label, budget)
    for nested in _archives_under(into):
        if depth == MAX_DEPTH:
            raise DataError(
                f"{label} nests archives more than {MAX_DEPTH} deep, first {nested.name!r}; "
                "unpack it by hand if you trust it"
            )
        _replace_by_content(nested, f"{nested.name} in {label}", budget, depth + 1)


def _replace_by_content(archive: Path, label: str, budget: _Budget, depth: int) -> None:
    """Unpack `archive` beside itself and remove it."""
    with _staging(archive.parent) as staging:
        _unpack(archive, staging, label, budget, depth)
        name = without_suffix(archive.name)
        entries = list(staging.iterdir())
        is_one_of_that_name = len(entries) == 1 and (
            entries[0].name == name or (entries[0].is_file() and entries[0].stem == name)
        )
        target = archive.parent if is_one_of_that_name else archive.parent / name
        _move_into(staging, target, label)
    archive.unlink()


def _replace_beside_nothing(archive: Path) -> None:
    """Unpack `archive` straight into its folder and remove it.

    All of its content is there before any is moved: what a kill leaves says what is still to move,
    and to where.
    """
    whole = archive.with_name(f".{archive.name}{_WHOLE}")
    if not whole.is_dir():
        with _staging(archive.parent) as staging:
            _unpack(archive, staging, archive.name, _Budget(archive), depth=0)
            _check_conflicts(staging, archive.parent, archive.name)
            staging.rename(whole)
    _merge(whole, archive.parent)
    archive.unlink(missing_ok=True)
    shutil.rmtree(whole)


def _archives_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_archive(path))


@contextmanager
def _created(folder: Path) -> Iterator[None]:
    """Create `folder`; when the body fails and the folder is new, remove it again."""
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _remove_cut(folder: Path) -> None:
    """Remove what killed extractions left: half an archive in it would be taken for a damaged one.

    Call it while no other extraction runs.
    """
    for left_over in list(folder.rglob(".????????.partial")):
        shutil.rmtree(left_over, ignore_errors=True)


@contextmanager
def _staging(parent: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=".", suffix=".partial", dir=parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_members(members: Iterator[Member], into: Path, label: str, budget: _Budget) -> None:
    names = _Names(label)
    for member in members:
        budget.take_entry()
        parts = _safe_parts(member.name, label)
        if not parts or not _LEFT_BY_DESKTOPS.isdisjoint(parts) or parts[-1].startswith("._"):
            continue
        names.add(parts, is_file=member.content is not None)
        with _usable_name(member.name, label):
            file = _create(member, into.joinpath(*parts))
        if file is not None and member.content is not None:
            with file:
                while chunk := member.content.read(CHUNK):
                    budget.take(len(chunk))
                    file.write(chunk)


def _create(member: Member, target: Path) -> IO[bytes] | None:
    """Create the member's folder, or the folders above its file and that file, opened."""
    if member.content is None:
        target.mkdir(parents=True, exist_ok=True)
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.open("xb")


@contextmanager
def _usable_name(name: str, label: str) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        if err.errno not in _UNUSABLE_NAME_ERRNOS:
            raise
        raise DataError(
            f"{label}: {name[:80]!r} cannot be a file name here ({err.strerror}); "
            "rename it in the archive"
        ) from err


def _safe_parts(name: str, label: str) -> tuple[str, ...]:
    """The components of a member's name.

    Raises:
        DataError: the name is absolute, leaves the folder, or has control characters.
    """
    path = PurePosixPath(name.replace("\\", "/"))  # zips made on Windows have backslashes
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive:
        raise DataError(
            f"{label}: {name!r} would be written outside its folder; nothing was kept, "
            "do not trust this archive"
        )
    if any(ord(char) < 32 for char in name):
        raise DataError(
            f"{label}: {name!r} has control characters in its name; rename it in the archive"
        )
    return path.parts


def _move_into(source: Path, target: Path, label: str) -> None:
    """Move everything in `source` to `target`, merging folders; checked before the first move."""
    _check_conflicts(source, target, label)
    _merge(source, target)


def _check_conflicts(source: Path, target: Path, label: str) -> None:
    conflict = next(_conflicts(source, target), None)
    if conflict is not None:
        raise DataError(
            f"{label}: {conflict.name!r} is already at {conflict} with another content; "
            "remove one of the two"
        )


def _conflicts(source: Path, target: Path) -> Iterator[Path]:
    if not target.is_dir():
        if target.exists():
            yield target
        return
    for entry in source.iterdir():
        there = target / entry.name
        if entry.is_dir() and there.exists():
            yield from _conflicts(entry, there)
        elif there.exists() and not (there.is_file() and filecmp.cmp(entry, there, shallow=False)):
            yield there


def _merge(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for entry in source.iterdir():
        if entry.is_dir() and (target / entry.name).is_dir():
            _merge(entry, target / entry.name)
        else:
            os.replace(entry, target / entry.name)
