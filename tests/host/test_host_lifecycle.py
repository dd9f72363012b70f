"""Starting, sharing, killing and stopping the host."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import pipeline
from pipeline.artifacts import read_json, write_json
from pipeline.errors import BusyError, ConfigError, HostError, StorageError
from pipeline.host.__main__ import main as host_command
from pipeline.host.database import Database
from pipeline.host.lifecycle import default_state, local_host, serve
from pipeline.host.services import Services
from pipeline.host.state import STATE_VARIABLE, State
from tests.host.running import Caller, Host, as_csv, path_of, send
from tests.permissions import ordinary_user

ROOT = Path(pipeline.__path__[0]).parent


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until_gone(port: int) -> None:
    while answers(port):
        time.sleep(0.05)


@contextmanager
def foreground(state: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`python -m pipeline.host serve` and the lines it prints when it is ready."""
    command = [sys.executable, "-m", "pipeline.host", "--state", str(state), "serve", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("export HOME"):
                break
        try:
            yield process, lines
        finally:
            process.kill()


def test_one_server_is_shared_and_ends_with_its_last_user(tmp_path: Path) -> None:
    with local_host("digits", state=tmp_path) as first:
        with local_host("digits", state=tmp_path) as second:
            assert second == first
        assert answers(first.port)
    wait_until_gone(first.port)
    assert not (tmp_path / "server.json").exists()
    with local_host("digits", state=tmp_path) as third:
        assert (third.instance, third.key) == (first.instance, first.key)


def test_server_ends_when_its_only_user_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path;"
        "from pipeline.host.lifecycle import local_host\n"
        "with local_host('digits', state=Path(sys.argv[1])) as address:\n"
        "    print(address.port, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert answers(port)
        process.kill()
    wait_until_gone(port)


def test_killed_server_loses_no_submission(tmp_path: Path) -> None:
    with foreground(tmp_path) as (process, _), local_host("digits", state=tmp_path) as address:
        host = Host(address, tmp_path)
        user = host.user("alice")
        content = as_csv(host.solution()["label"])
        scored = user.submit(content)
        started = user.call(
            "StartSubmissionUpload", competitionName="digits", contentLength=len(content)
        ).json
        assert send(host, "PUT", path_of(started["createUrl"]), content).status == 200
        process.send_signal(signal.SIGKILL)
        process.wait()

    # A submission that was accepted, but whose score the killed server did not get to.
    services = Services.open(State(tmp_path))
    owner, contest = services.accounts.named("alice"), services.contests.get("digits")
    assert owner is not None
    assert contest is not None
    waiting = services.submissions.submit(owner, contest, started["token"], "")

    with sqlite3.connect(tmp_path / "host.sqlite3") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()
    with local_host("digits", state=tmp_path) as address:
        user = Caller(Host(address, tmp_path), "alice", user.key)
        listed = user.call("ListSubmissions", competitionName="digits").json["submissions"]
        assert [s["ref"] for s in listed] == [waiting, scored["ref"]]
        assert {s["publicScore"] for s in listed} == {"1.00000"}


def test_serve_prints_what_a_plain_kaggle_command_needs(tmp_path: Path) -> None:
    with foreground(tmp_path) as (process, lines):
        assert oct(stat.S_IMODE(tmp_path.stat().st_mode)) == "0o700"
        script = "".join(lines) + "\nexec kaggle competitions files digits"
        assert "HOME in that shell" in "".join(lines)
        files = subprocess.run(
            ["bash", "-c", script],
            env={"PATH": "/usr/bin:/bin", "NO_PROXY": "localhost"},
            check=True,
            capture_output=True,
            text=True,
        )
        assert "train.csv" in files.stdout
        with pytest.raises(BusyError, match="a host already runs on"):
            serve(tmp_path)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert not (tmp_path / "server.json").exists()


def test_stale_address_of_another_program_is_not_believed(tmp_path: Path) -> None:
    with local_host("digits", state=tmp_path) as first:
        pass
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        write_json(tmp_path / "server.json", {"port": port, "pid": 1})

        def answer() -> None:
            with suppress(OSError):  # ends when the listener is closed
                while True:
                    caller, _ = other.accept()
                    with caller:
                        caller.recv(4096)
                        caller.sendall(b"220 mail.example.org\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with local_host("digits", state=tmp_path) as address:
            assert (address.instance, address.port != port) == (first.instance, True)


def test_taken_port(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=f"cannot listen on port {port}"):
            serve(tmp_path, port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_port_that_is_none(tmp_path: Path, port: int) -> None:
    with pytest.raises(ConfigError, match=f"port {port}: choose 0 to 65535"):
        serve(tmp_path, port)


def test_keys_are_stored_as_hashes_only(tmp_path: Path) -> None:
    with local_host("digits", state=tmp_path) as address:
        assert address.key not in repr(address)
    credentials = tmp_path / "credentials.json"
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    assert read_json(credentials)["key"] == address.key
    others = [p for p in tmp_path.rglob("*") if p.is_file() and p != credentials]
    assert not [p for p in others if address.key.encode() in p.read_bytes()]


def test_unknown_competition() -> None:
    with (
        pytest.raises(
            ConfigError, match="no competition 'dogs'; choose from cat-or-dog-bursts, clothing"
        ),
        local_host("dogs"),
    ):
        pass


def test_unusable_archive_named_by_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "cifar.tar.gz"
    archive.write_bytes(b"not an archive")
    monkeypatch.setenv("CIFAR10_ARCHIVE", str(archive))
    with (
        pytest.raises(ConfigError, match=r"CIFAR10_ARCHIVE=.*cifar\.tar\.gz cannot be used"),
        local_host("dog-vs-cat-vs-bird", state=tmp_path / "state"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_state(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with (
        pytest.raises(StorageError, match=r"make .* writable"),
        local_host("digits", state=tmp_path / "state"),
    ):
        pass


@pytest.mark.parametrize("program", ["add a user", "use a host"])
def test_state_that_became_read_only(tmp_path: Path, program: str) -> None:
    state = State(tmp_path / "state")
    Services.open(state)
    state.users_lock.touch(0o400)
    state.folder.chmod(0o500)
    arguments = ["-m", "pipeline.host", "--state", str(state.folder), "add-user", "alice"]
    if program == "use a host":
        arguments = ["-c", "import pipeline.host.lifecycle as l; l.local_host().__enter__()"]
    closed = subprocess.run(
        [*ordinary_user(), sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, STATE_VARIABLE: str(state.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    state.folder.chmod(0o700)
    last = closed.stderr.splitlines()[-1]
    assert "cannot write" in last
    assert f"make {state.folder} writable and rerun" in last


def test_full_disk(tmp_path: Path) -> None:
    mounted = "mount -t tmpfs -o size=120k tmpfs {0} && exec {1} -m pipeline.host --state {0} {2}"
    script = mounted.format(tmp_path, sys.executable, "add-user alice")
    command = ["unshare", "--map-root-user", "--mount", "bash", "-c", script]
    full = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if "unshare" in full.stderr or "mount:" in full.stderr:
        pytest.skip("this machine does not let us mount a small disk")
    assert full.returncode == StorageError.exit_code
    assert full.stderr.startswith("error: disk full while writing ")


def test_a_damaged_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = State(tmp_path).database
    database.write_bytes(b"no database" * 500)

    assert host_command(["--state", str(tmp_path), "add-user", "alice"]) == HostError.exit_code

    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {database} is damaged (file is not a database); move ")
    assert printed.count("\n") == 1


def test_a_locked_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.host.database._SECONDS_TO_WAIT_FOR_A_WRITER", 0)
    path = tmp_path / "host.sqlite3"
    with Database(path).transaction(), pytest.raises(HostError, match="locked; end that one"):
        Database(path)


def test_state_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    assert default_state() == tmp_path


def test_users_and_settings_from_the_command_line(host: Host) -> None:
    def administer(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline.host", "--state", str(host.state), *arguments]
        return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)

    key = administer("add-user", "carol").stdout.strip()
    carol = Caller(host, "carol", key)
    assert carol.call("DownloadDataFiles", competitionName="digits").status == 302
    assert administer("rules", "carol", "digits", "revoke").returncode == 0
    assert carol.call("DownloadDataFiles", competitionName="digits").status == 403
    assert administer("daily-limit", "digits", "20").returncode == 0
    again = administer("add-user", "carol")
    assert again.returncode == ConfigError.exit_code
    assert again.stderr == "error: user 'carol' exists already; choose another name\n"


@pytest.mark.parametrize(
    "refused",
    [
        ("daily-limit", "digits", "-3"),
        ("daily-limit", "digits", str(2**70)),
        ("gpu-hours", "carol", "-1"),
        ("gpu-hours", "carol", "nan"),
    ],
)
def test_numbers_out_of_range_are_refused(
    host: Host, capsys: pytest.CaptureFixture[str], refused: tuple[str, ...]
) -> None:
    assert host_command(["--state", str(host.state), *refused]) == ConfigError.exit_code

    printed = capsys.readouterr().err
    assert ": choose 0 to 1" in printed
    assert printed.count("\n") == 1
