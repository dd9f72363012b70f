"""download: fetch, verify and extract a competition's files into data/<competition>/raw/."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from pipeline.artifacts import MANIFEST, read_json, storage_errors, whole_folder
from pipeline.client.client import KaggleClient, RemoteFile
from pipeline.client.endpoint import Endpoint
from pipeline.data.archives import extract_archive, unpack_archives
from pipeline.data.fingerprint import file_hashes
from pipeline.errors import DataError, HostError, PipelineError, StorageError
from pipeline.reading import read_errors
from pipeline.stages.console import say
from pipeline.stages.hosts import HostChoice, check_slug, choose_host, open_client
from pipeline.workspace import Workspace

RawState = Literal["own", "downloaded", "other host", "absent"]


def download(workspace: Workspace, competition: str, host: str) -> str:
    """Make data/<competition>/raw/ hold the competition's files; returns the host to submit to.

    Files that a person put there are used as they are; archives among them are replaced by their
    content. Files from another host than the one asked for are replaced as a whole, never mixed;
    with HOST=auto, files from kaggle.com stay, so that training needs no credentials.

    Raises:
        ConfigError: the host or the competition is unknown.
        DataError: the download is damaged or incomplete, or the folder was changed afterwards.
        StorageError: there is not enough space.
        CredentialsError, AccessError, HostError: the host refused or failed.
    """
    check_slug(competition)
    raw = workspace.raw(competition)
    state, host = raw_state(raw, host)
    if state == "own":
        for archive in unpack_archives(raw):
            say("download", f"replaced {raw / archive} by its content")
        say("download", f"{raw} holds your own files, used as they are")
    elif state == "downloaded":
        say("download", f"up to date: {_check_unchanged(raw)} files in {raw}")
    else:
        if state == "other host":
            say("download", f"{raw} came from {_origin(raw)}: downloading anew, replacing it")
        _fetch_from(host, competition, raw)
    return host


def raw_state(raw: Path, host: str) -> tuple[RawState, str]:
    """Whose files are in a raw folder, and the host to submit to; nothing is read or written.

    Raises:
        ConfigError, CredentialsError: the host is unknown, or there are no credentials for it.
    """
    if _has_own_files(raw):
        return "own", host
    if not is_downloaded(raw):
        return "absent", host
    if host == "auto" and _source(raw)["host"] == "kaggle":
        return "downloaded", "kaggle"
    return ("downloaded" if _is_from(raw, choose_host(host)) else "other host"), host


def _fetch_from(host: str, competition: str, raw: Path) -> None:
    with open_client(host, competition) as client:
        _fetch(client, competition, raw)


def _has_own_files(raw: Path) -> bool:
    """Whether a person put files there: there are some, and no manifest of ours."""
    if not raw.is_dir():
        return False
    with read_errors(raw):
        visible = any(not path.name.startswith(".") for path in raw.iterdir())
    return visible and not is_downloaded(raw)


def is_downloaded(raw: Path) -> bool:
    """Whether a raw folder was filled by `download`, and lists its files in our manifest.

    Raises:
        DataError: a manifest is there that cannot be read.
    """
    return bool(_source(raw))


def _source(raw: Path) -> dict[str, str]:
    if not (raw / MANIFEST).is_file():
        return {}
    try:
        manifest = read_json(raw / MANIFEST)
    except DataError as err:
        raise DataError(
            f"{raw / MANIFEST} is not JSON; rename it if it is a file of your own, or delete {raw} "
            "and rerun to download the files again"
        ) from err
    # A competition may ship a manifest.json of its own.
    source = manifest.get("source") if isinstance(manifest, dict) else None
    return source if isinstance(source, dict) and {"host", "instance"} <= source.keys() else {}


def _is_from(raw: Path, choice: HostChoice) -> bool:
    source = _source(raw)
    # The local host's instance is not known where its state is out of sight.
    return source["host"] == choice.name and choice.instance in {None, source["instance"]}


def _origin(raw: Path) -> str:
    source = _source(raw)
    return f"the host {source['host']!r} (instance {source['instance']})"


def _check_unchanged(raw: Path) -> int:
    """Compare the folder with its manifest; returns the number of files.

    Raises:
        DataError: a file is missing or has another content.
    """
    files: dict[str, Any] = read_json(raw / MANIFEST)["files"]
    found = file_hashes(raw)
    changed = [name for name, expected in files.items() if found.get(name) != expected["sha256"]]
    if changed:
        raise DataError(
            f"{raw}: {len(changed)} of {len(files)} files are missing or changed since the "
            f"download, first {changed[0]!r}; delete {raw} and rerun to download them again, or "
            f"delete {raw / MANIFEST} to use them as your own"
        )
    return len(files)


def _fetch(client: KaggleClient, competition: str, raw: Path) -> None:
    listed = client.files(competition)
    _check_space(raw, listed, _received(raw, client.endpoint))
    with _received_so_far(raw, client.endpoint) as folder:
        with _progress_bar(competition) as on_progress:
            archive = client.download(competition, folder, on_progress)
        _compare_with_list(archive, listed, client.endpoint)
        source = {"host": client.endpoint.name, "instance": client.endpoint.instance}
        with whole_folder(raw, source) as whole:
            extract_archive(archive, whole)
    sizes = [file["size"] for file in read_json(raw / MANIFEST)["files"].values()]
    say("download", f"done: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB, in {raw}")


def _check_space(raw: Path, listed: list[RemoteFile], received: Path) -> None:
    """There must be room for what of the archive is not `received`, and for what it holds."""
    needed = 2 * sum(file.size for file in listed)
    needed -= sum(file.stat().st_size for file in received.glob("*"))
    folder = next(parent for parent in raw.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{raw}: the download needs about {needed / 2**20:.0f} MiB and {free / 2**20:.0f} MiB "
            "are free; free some space and rerun"
        )


def _received(raw: Path, endpoint: Endpoint) -> Path:
    return raw.with_name(f".download-{endpoint.instance}")


@contextmanager
def _received_so_far(raw: Path, endpoint: Endpoint) -> Iterator[Path]:
    """A hidden folder for the archive: removed in the end, kept where a rerun can continue.

    The client resumes a partial file only if the host still has the same one.
    """
    folder = _received(raw, endpoint)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except HostError:
        if not any(folder.iterdir()):
            folder.rmdir()
        else:
            print(f"what was received stays in {folder}; a rerun continues it", file=sys.stderr)
        raise
    except PipelineError:
        shutil.rmtree(folder)
        raise
    for received in raw.parent.glob(".download-*"):
        shutil.rmtree(received)


def _compare_with_list(archive: Path, listed: list[RemoteFile], endpoint: Endpoint) -> None:
    """The client checks no content. Sizes are compared here; extraction checks every CRC.

    Raises:
        DataError: the archive is damaged, or lacks a file, or has one of another size.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            sizes = {info.filename: info.file_size for info in opened.infolist()}
    except zipfile.BadZipFile as err:
        raise DataError(
            f"{endpoint.title} sent a damaged {archive.name} ({archive.stat().st_size} bytes: "
            f"{err}); it was removed, rerun to download it again"
        ) from err
    wrong = [file for file in listed if sizes.get(file.name) != file.size]
    if wrong:
        first = wrong[0]
        raise DataError(
            f"{endpoint.title} sent {archive.name} with {len(wrong)} of {len(listed)} files "
            f"missing or of another size, first {first.name!r} ({first.size} bytes listed, "
            f"{sizes.get(first.name, 'none')} received); it was removed, rerun, or put the files "
            "into the raw folder yourself"
        )


@contextmanager
def _progress_bar(competition: str) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(f"downloading {competition}", total=None)
        yield lambda received: progress.update(task, completed=received)
