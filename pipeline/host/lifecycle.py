"""Starts the host for the command that needs it, shares it, and stops it afterwards."""

from __future__ import annotations

import base64
import fcntl
import http.client
import json
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pipeline
from pipeline.artifacts import read_json, storage_errors
from pipeline.errors import BusyError, ConfigError, DataError, HostError, StorageError
from pipeline.host.catalog import available_competitions, check_available
from pipeline.host.protocol import EXIT_CODE_HEADER, LOOPBACK
from pipeline.host.state import STATE_VARIABLE, State, default_state

__all__ = ["HostAddress", "available_competitions", "default_state", "local_host", "serve"]

_STDERR = 2
_SECONDS_TO_START = 120
_SECONDS_TO_STOP = 5
_SECONDS_TO_SAY_HELLO = 10
_SECONDS_BETWEEN_LOOKS = 0.05
_ERRORS = {str(kind.exit_code): kind for kind in (ConfigError, StorageError)}


@dataclass(frozen=True, kw_only=True, slots=True)
class HostAddress:
    """A running host, and the user to speak as. `instance` was made with the state folder."""

    port: int
    username: str
    key: str = field(repr=False)
    instance: str


@contextmanager
def local_host(
    competition: str | None = None, *, state: Path | None = None
) -> Iterator[HostAddress]:
    """A host; one that runs on the state folder already is shared.

    It has the data of `competition` ready, where one is named.

    Raises:
        ConfigError: the local host does not offer this competition, or an archive that the user
            named for it cannot be used.
        HostError: the host does not start, or no source of the images can be reached.
        StorageError: the disk is full, or the state folder is read-only.
    """
    if competition is not None:
        check_available(competition)
    files = State((state or default_state()).absolute())
    files.create()
    started = None
    with storage_errors(files.users_lock):
        lock = files.users_lock.open("w")
    try:
        with lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            address = _running(files)
            if address is None:
                started = _start(files)
                address = _wait_until_running(files, started)
            if competition is not None:
                _prepare(address, competition)
            yield address
    finally:
        if started is not None:
            _wait_until_stopped(started)


def serve(state: Path | None = None, port: int = 0) -> None:
    """Serve every available competition until interrupted; print how to reach it.

    Raises:
        BusyError: another server runs on this state folder.
        ConfigError: there is no such port.
        HostError: the port is taken.
        StorageError: the disk is full, or the folder is read-only.
    """
    from pipeline.host.server import run_server  # what only talks to a host need not load one

    files = State((state or default_state()).absolute())
    with suppress(KeyboardInterrupt):
        run_server(files, port, lambda taken: print(_directions(files, taken), flush=True))


def _directions(state: State, port: int) -> str:
    proxy = f"http://{LOOPBACK}:{port}"
    credentials = read_json(state.credentials)
    exports = {
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "http_proxy": proxy,
        "HTTP_PROXY": proxy,
        "https_proxy": proxy,
        "HTTPS_PROXY": proxy,
        "KAGGLE_USERNAME": credentials["username"],
        "KAGGLE_KEY": credentials["key"],
        "HOME": str(state.home),
        STATE_VARIABLE: str(state.folder),
    }
    lines = [
        f"# The local competition host listens on {proxy}; Ctrl-C stops it.",
        f"# Competitions: {', '.join(available_competitions())}",
        "# Paste these lines into another shell to point its `kaggle` command here. They replace",
        "# HOME in that shell, which keeps your own credentials out of it; close it afterwards.",
        f'export PATH={shlex.quote(str(Path(sys.prefix) / "bin"))}:"$PATH"',
        "unset NO_PROXY no_proxy ALL_PROXY all_proxy KAGGLE_API_TOKEN KAGGLE_CONFIG_DIR",
        *(f"export {name}={shlex.quote(value)}" for name, value in exports.items()),
    ]
    return "\n".join(lines)


def _start(state: State) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.host", "--state", str(state.folder), "until-unused"],
        cwd=Path(pipeline.__path__[0]).parent,
        stdin=subprocess.DEVNULL,
        stdout=_STDERR,
        # Ctrl-C is for the command; the server ends when the command lets go of it.
        start_new_session=True,
    )


def _wait_until_running(state: State, process: subprocess.Popen[bytes]) -> HostAddress:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline:
        address = _running(state)
        if address is not None:
            return address
        # A busy exit means that another command's server is about to answer.
        if process.poll() not in (None, BusyError.exit_code):
            kind = _ERRORS.get(str(process.returncode), HostError)
            raise kind(f"the local host did not start on {state.folder}; it said why above")
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    process.kill()
    raise HostError(f"the local host did not answer within {_SECONDS_TO_START} s; start it again")


def _wait_until_stopped(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        # Another command still uses it; it ends with that one.
        return


def _running(state: State) -> HostAddress | None:
    """The address of the server that answers for this state folder, if one does."""
    try:
        address = HostAddress(
            port=read_json(state.address)["port"],
            instance=state.instance.read_text(),
            **read_json(state.credentials),
        )
        reply = _call(address, "api.v1.DiagnosticsService/Hello", {}, _SECONDS_TO_SAY_HELLO)
    except (OSError, ValueError, DataError, http.client.HTTPException):
        # No address, nothing there, or some other program on a port once ours.
        return None
    expected = {"userName": address.username, "instance": address.instance}
    return address if reply == expected else None


def _prepare(address: HostAddress, competition: str) -> None:
    """Wait until the host has built the competition's data; it shows its progress itself."""
    try:
        _call(
            address,
            "competitions.CompetitionApiService/ListDataFiles",
            {"competitionName": competition, "pageSize": 1},
        )
    except urllib.error.HTTPError as err:
        kind = _ERRORS.get(err.headers.get(EXIT_CODE_HEADER, ""), HostError)
        with err:
            raise kind(json.load(err)["message"]) from err
    except OSError as err:
        raise HostError(f"the local host stopped while building {competition}: {err}") from err


def _call(
    address: HostAddress, method: str, body: dict[str, Any], seconds: float | None = None
) -> Any:
    """One API call, never through a proxy; `seconds` without an answer are an OSError.

    Raises:
        HTTPError: the host refuses.
        OSError: nothing answers.
    """
    token = base64.b64encode(f"{address.username}:{address.key}".encode()).decode()
    request = urllib.request.Request(
        f"http://{LOOPBACK}:{address.port}/api/v1/{method}",
        json.dumps(body).encode(),
        {"Authorization": f"Basic {token}", "Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=seconds) as reply:
        return json.load(reply)
