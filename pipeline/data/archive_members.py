"""Reading zip, tar and compressed files member by member, refusing what is not a plain file."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from pipeline.errors import DataError

Opener = Callable[[Path], io.BufferedIOBase]

_STREAMS: dict[str, Opener] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
_TARS: dict[str, Opener] = {
    ".tar": lambda path: path.open("rb"),
    **{f".tar{suffix}": opener for suffix, opener in _STREAMS.items()},
    ".tgz": _STREAMS[".gz"],
    ".tbz2": _STREAMS[".bz2"],
    ".txz": _STREAMS[".xz"],
}
_SUFFIXES = (".zip", *_TARS, *_STREAMS)
CHUNK = 2**20
_END_RECORD_SPAN = 22 + 2**16  # the zip format's end record and the longest comment after it
_SAYS_UTF8 = 1 << 11
_COUNTED_ELSEWHERE = 2**16 - 1  # the mark of a zip64 archive


@dataclass(frozen=True, slots=True)
class Member:
    """One entry: its name in the archive, and its content unless it is a folder."""

    name: str
    content: IO[bytes] | io.BufferedIOBase | None


def is_archive(path: Path) -> bool:
    """Whether the name says that this is an archive which can be read here."""
    return path.name.lower().endswith(_SUFFIXES) and path.is_file()


def without_suffix(name: str) -> str:
    """The archive's name without `.zip`, `.tar.gz` and the like."""
    suffix = max((s for s in _SUFFIXES if name.lower().endswith(s)), key=len)
    return name[: -len(suffix)]


def read_members(archive: Path, label: str) -> Iterator[Member]:
    """The archive's entries in its own order; read each content before taking the next.

    Use inside `damage_reported`. `label` names the archive in messages.

    Raises:
        DataError: the kind is unknown, or an entry is a link or a device.
    """
    name = archive.name.lower()
    if name.endswith(".zip"):
        return _zip_members(archive, label)
    tar_suffix = next((suffix for suffix in _TARS if name.endswith(suffix)), None)
    if tar_suffix:
        return _tar_members(_TARS[tar_suffix], archive, label)
    if name.endswith(tuple(_STREAMS)):
        return _stream_member(archive)
    raise DataError(
        f"{label} is no archive that can be read here ({', '.join(_SUFFIXES)}); unpack it by hand"
    )


@contextmanager
def damage_reported(label: str) -> Iterator[None]:
    """Turn what the standard library raises on a bad archive into one line naming it.

    Raises:
        DataError: the archive is damaged, truncated, encrypted or uses an unknown method.
    """
    try:
        yield
    except RuntimeError as err:  # an encrypted member; also a method or a version it cannot read
        raise _damaged(label, err, "unpack it by hand, or download it again") from err
    except (
        EOFError,
        ValueError,
        OverflowError,
        lzma.LZMAError,
        struct.error,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
    ) as err:
        raise _damaged(label, err) from err
    except OSError as err:
        # bz2 and gzip report bad data without a number; a wrong offset is an invalid seek.
        if err.errno not in {None, errno.EINVAL}:
            raise
        raise _damaged(label, err) from err


def _damaged(label: str, reason: Exception, remedy: str = "download it again") -> DataError:
    return DataError(f"{label} is damaged, truncated or unreadable ({reason}); {remedy}")


def _zip_members(archive: Path, label: str) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        _check_count(archive, len(opened.infolist()))
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise _not_a_file(label, info.filename)
            name = _zip_name(info)
            if name.endswith(("/", "\\")):
                yield Member(name, None)
            else:
                with opened.open(info) as content:
                    yield Member(name, content)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The entry's name: in UTF-8 where it can be, whether the archive says so or not.

    zipfile goes by a flag that the zip command and macOS do not set, and takes the rest for cp437.
    """
    if info.flag_bits & _SAYS_UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename


def _check_count(archive: Path, found: int) -> None:
    """zipfile does not notice when a damaged entry of a zip's directory swallows the next ones.

    Raises:
        BadZipFile: the directory's end record counts another number of entries.
    """
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - _END_RECORD_SPAN))
        tail = file.read()
    start = tail.rfind(b"PK\x05\x06")
    (expected,) = struct.unpack_from("<H", tail, start + 10)
    if expected not in {found % 2**16, _COUNTED_ELSEWHERE}:
        raise zipfile.BadZipFile(f"{found} entries in its directory, {expected} expected")


def _tar_members(opener: Opener, archive: Path, label: str) -> Iterator[Member]:
    with opener(archive) as raw:
        # Back-seeks of one block are free inside a buffer; a compressed stream would start over.
        stream = io.BufferedReader(cast(io.RawIOBase, raw), CHUNK)
        with tarfile.open(fileobj=stream, mode="r:") as opened:
            for info in opened:
                if not (info.isreg() or info.isdir()):
                    raise _not_a_file(label, info.name)
                yield Member(info.name, opened.extractfile(info))
            # tarfile takes a damaged header for the end; a real end is a block of zeros.
            stream.seek(opened.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no end of archive at byte {opened.offset}")
            while stream.read(CHUNK):  # to the compressed stream's own checksum
                pass


def _stream_member(archive: Path) -> Iterator[Member]:
    with _STREAMS[archive.suffix.lower()](archive) as content:
        yield Member(without_suffix(archive.name), content)


def _not_a_file(label: str, name: str) -> DataError:
    return DataError(
        f"{label}: {name!r} is a link or a device, not a file; nothing was kept, "
        "repack the archive without it"
    )
