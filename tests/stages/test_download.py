"""The download stage: verified, whole or not at all, and never mixed."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina

from pipeline.artifacts import verify_manifest
from pipeline.errors import ConfigError, CredentialsError, DataError, HostError, StorageError
from pipeline.host.state import STATE_VARIABLE, State, default_state
from pipeline.stages import hosts
from pipeline.stages.download import download
from pipeline.workspace import Workspace
from tests.client.fault_server import FaultServer, Handler, hang_up, refuse, running_server
from tests.stages.stand_in import INSTANCE, host_at

DIGITS = "digits"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def server(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultServer]:
    # Where no other test has had a host, whose files would be of another instance.
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path_factory.mktemp("state")))
    with running_server() as running, stamina.set_testing(True, attempts=10, cap=True):
        monkeypatch.setattr(hosts, "local_host", host_at(running.port))
        yield running


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_nothing_left(workspace: Workspace) -> None:
    assert list(workspace.competition(DIGITS).rglob("*")) == []


def test_files_arrive_with_a_manifest(server: FaultServer, workspace: Workspace) -> None:
    download(workspace, DIGITS, "auto")
    raw = workspace.raw(DIGITS)
    found = contents(raw)
    manifest = json.loads(found.pop("manifest.json"))
    assert found == server.book.files
    assert manifest["source"] == {"host": "local", "instance": INSTANCE}
    verify_manifest(raw)
    assert [path.name for path in workspace.competition(DIGITS).iterdir()] == ["raw"]


def test_second_run_needs_no_server(
    server: FaultServer, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    download(workspace, DIGITS, "auto")
    asked = len(server.book.log)
    download(workspace, DIGITS, "auto")
    assert len(server.book.log) == asked
    assert "up to date: 2 files" in capsys.readouterr().out


@pytest.mark.parametrize("manifest", ["[]", '{"source": {"url": "https://example.org"}}'])
def test_own_files_are_used_as_they_are(
    server: FaultServer, workspace: Workspace, capsys: pytest.CaptureFixture[str], manifest: str
) -> None:
    raw = workspace.raw(DIGITS)
    raw.mkdir(parents=True)
    (raw / "train.csv").write_text("mine")
    (raw / "manifest.json").write_text(manifest)  # a file of the competition, not ours
    download(workspace, DIGITS, "auto")
    assert contents(raw) == {"train.csv": b"mine", "manifest.json": manifest.encode()}
    assert "your own files" in capsys.readouterr().out
    assert server.book.log == []


def test_own_manifest_that_cannot_be_read_is_not_to_be_deleted(workspace: Workspace) -> None:
    raw = workspace.raw(DIGITS)
    raw.mkdir(parents=True)
    (raw / "manifest.json").write_text('{"id": 1}\n{"id": 2}\n')
    with pytest.raises(DataError, match="is not JSON; rename it if it is a file of your own, or"):
        download(workspace, DIGITS, "auto")


def test_files_of_another_host_are_replaced_whole(
    server: FaultServer, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    download(workspace, DIGITS, "local")
    manifest = workspace.raw(DIGITS) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"local"', '"kaggle"'))
    del server.book.files["images/1.txt"]
    download(workspace, DIGITS, "local")
    assert set(contents(workspace.raw(DIGITS))) == {"train.csv", "manifest.json"}
    assert "came from the host 'kaggle'" in capsys.readouterr().out


def test_files_of_an_earlier_local_host_are_replaced(
    server: FaultServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIPELINE_HOST_STATE", str(tmp_path / "state"))
    download(workspace, DIGITS, "local")
    State(default_state()).create()
    State(default_state()).instance.write_text("another")
    download(workspace, DIGITS, "local")
    assert server.book.count("DownloadDataFiles") == 2


def test_changed_files_are_noticed_and_kept(server: FaultServer, workspace: Workspace) -> None:
    download(workspace, DIGITS, "auto")
    changed = workspace.raw(DIGITS) / "train.csv"
    changed.write_text("my edit")
    with pytest.raises(DataError, match=r"1 of 2 files .* first 'train\.csv'; delete .* rerun"):
        download(workspace, DIGITS, "auto")
    assert changed.read_text() == "my edit"


def truncated(book_archive: bytes) -> bytes:
    return book_archive[: len(book_archive) // 2]


def with_a_flipped_byte(book_archive: bytes) -> bytes:
    position = book_archive.index(b"pixelspixels") + 5
    return book_archive[:position] + b"X" + book_archive[position + 1 :]


def of_another_competition(book_archive: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("other.csv", "id\n")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, r"damaged digits\.zip"),
        (lambda _: b"<html>sign in</html>", r"damaged digits\.zip \(20 bytes"),
        (with_a_flipped_byte, r"images/1\.txt"),
        (of_another_competition, r"2 of 2 files missing .* first 'train\.csv' \(13 bytes listed"),
    ],
)
def test_damaged_download_leaves_nothing(
    server: FaultServer, workspace: Workspace, damage: object, words: str
) -> None:
    assert callable(damage)
    server.book.archive = damage(server.book.zipped())
    with pytest.raises(DataError, match=words) as caught:
        download(workspace, DIGITS, "auto")
    assert "\n" not in str(caught.value)
    assert_nothing_left(workspace)


def test_damaged_download_costs_nothing_that_was_there(
    server: FaultServer, workspace: Workspace
) -> None:
    download(workspace, DIGITS, "auto")
    manifest = workspace.raw(DIGITS) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"local"', '"kaggle"'))
    before = contents(workspace.raw(DIGITS))
    server.book.archive = b"broken"
    with pytest.raises(DataError):
        download(workspace, DIGITS, "local")
    assert contents(workspace.raw(DIGITS)) == before


@pytest.mark.parametrize("fault", [refuse(500), hang_up])
def test_host_that_fails_leaves_nothing(
    server: FaultServer, workspace: Workspace, fault: object
) -> None:
    server.book.faults["DownloadDataFiles"] = [fault] * 9  # type: ignore[list-item]
    with pytest.raises(HostError, match="the download failed"):
        download(workspace, DIGITS, "auto")
    assert_nothing_left(workspace)


def test_too_little_space_is_said_before_the_download(
    server: FaultServer, workspace: Workspace
) -> None:
    server.book.faults["ListDataFiles"] = [
        lambda handler: handler.send_json({"files": [{"name": "big", "totalBytes": 2**55}]})
    ]
    with pytest.raises(StorageError, match=r"needs about \d+ MiB and \d+ MiB are free"):
        download(workspace, DIGITS, "auto")
    assert server.book.count("DownloadDataFiles") == 0


def test_what_was_received_needs_no_space_again(
    server: FaultServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 3 * 2**20
    server.book.files = {"big.bin": os.urandom(size)}
    received = workspace.competition(DIGITS) / f".download-{INSTANCE}"
    received.mkdir(parents=True)
    (received / "digits.zip").write_bytes(server.book.zipped()[: size // 2])
    usage = shutil.disk_usage(workspace.root)
    free = usage._replace(free=3 * size // 2)
    monkeypatch.setattr("pipeline.stages.download.shutil.disk_usage", lambda _: free)
    download(workspace, DIGITS, "local")
    verify_manifest(workspace.raw(DIGITS))


_DOWNLOAD = """
import sys
from pathlib import Path
from pipeline.stages import hosts
from pipeline.stages.download import download
from pipeline.workspace import Workspace
from tests.stages.stand_in import host_at
hosts.local_host = host_at(int(sys.argv[1]))
download(Workspace(root=Path(sys.argv[2])), "digits", "local")
"""


def send_half_and_wait(handler: Handler) -> None:
    content = handler.server.book.zipped()
    handler.send_response(200)
    for name, value in {
        "Content-Type": "application/zip",
        "Content-Length": str(len(content)),
        "ETag": '"1"',
        "Accept-Ranges": "bytes",
    }.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.server.closing.wait(30)


def test_killed_download_looks_unfinished_and_is_continued(
    server: FaultServer, workspace: Workspace
) -> None:
    server.book.files["big.bin"] = os.urandom(3 * 2**20)
    server.book.faults["GET"] = [send_half_and_wait]
    process = subprocess.Popen(
        [sys.executable, "-c", _DOWNLOAD, str(server.port), str(workspace.root)], cwd=REPOSITORY
    )
    archive = workspace.competition(DIGITS) / f".download-{INSTANCE}" / "digits.zip"
    while not archive.exists() or archive.stat().st_size < 2**20:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not workspace.raw(DIGITS).exists()
    download(workspace, DIGITS, "local")
    verify_manifest(workspace.raw(DIGITS))
    assert server.book.ranges[-1] >= 2**20
    assert [path.name for path in workspace.competition(DIGITS).iterdir()] == ["raw"]


def test_unknown_competition_names_the_known_ones(workspace: Workspace) -> None:
    with pytest.raises(
        ConfigError, match=r"no competition 'titanic'; choose from .*digits"
    ) as told:
        download(workspace, "titanic", "auto")
    assert "data/titanic/raw/ yourself and run `make submission COMPETITION=titanic`" in str(
        told.value
    )


@pytest.mark.parametrize("slug", ["../digits", "a b", "", ".hidden", "digits/raw"])
def test_slug_that_is_none(workspace: Workspace, slug: str) -> None:
    with pytest.raises(ConfigError, match="is not a competition's slug"):
        download(workspace, slug, "auto")


def test_unknown_host(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="choose from auto, kaggle, local"):
        download(workspace, DIGITS, "nowhere")


def test_kaggle_without_credentials(workspace: Workspace) -> None:
    with pytest.raises(CredentialsError, match=r"https://www\.kaggle\.com/settings/api"):
        download(workspace, DIGITS, "kaggle")


def test_kaggle_out_of_reach(
    workspace: Workspace, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a proxy that refuses CONNECT nothing leaves the machine."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("KAGGLE_USERNAME", "alice")
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    with pytest.raises(HostError, match="check the network"):
        download(workspace, DIGITS, "auto")


def test_full_disk_while_extracting(
    server: FaultServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = workspace.root / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mounted)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        server.book.files["zeros.bin"] = os.urandom(2**21)
        monkeypatch.setattr("pipeline.stages.download._check_space", lambda *_: None)
        small = Workspace(root=mounted)
        with pytest.raises(StorageError, match="disk full"):
            download(small, DIGITS, "local")
        assert_nothing_left(small)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
