"""Runs the host: one server per state folder, on the loopback interface only."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline.artifacts import read_json, storage_errors, write_json, write_whole
from pipeline.errors import BusyError, ConfigError, HostError
from pipeline.host.accounts import new_key
from pipeline.host.app import create_app
from pipeline.host.protocol import LOOPBACK
from pipeline.host.services import Services
from pipeline.host.state import State

LOCAL_USER = "local-user"


class _Protocol(HttpToolsProtocol):
    """httptools hands over clean paths when the target is a whole URL, as a proxy gets it."""

    def on_headers_complete(self) -> None:
        """Give a CONNECT, whose target is no URL, a path, so that the application answers it."""
        if self.parser.get_method() == b"CONNECT":
            self.url = b"/"
        super().on_headers_complete()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave at the first signal."""
        _leave(self._state)


def run_server(state: State, port: int, ready: Callable[[int], None]) -> None:
    """Serve until interrupted; call `ready` with the port once it is bound.

    Raises:
        BusyError: another server runs on this state folder.
        ConfigError: there is no such port.
        HostError: the port is taken.
        StorageError: the disk is full, or the folder is read-only.
    """
    state.create()
    with _only_server(state), _bound(port) as listener:
        state.remove_partials()
        services = Services.open(state)
        _ensure_local_user(state, services)
        write_whole(state.instance, services.database.instance.encode())
        taken = listener.getsockname()[1]
        config = uvicorn.Config(
            create_app(services), http=_Protocol, log_level="error", access_log=False
        )
        write_json(state.address, {"port": taken, "pid": os.getpid()})
        ready(taken)
        _Server(config, state).run(sockets=[listener])


def _ensure_local_user(state: State, services: Services) -> None:
    if not state.credentials.is_file():
        _write_privately(state.credentials, {"username": LOCAL_USER, "key": new_key()})
    credentials = read_json(state.credentials)
    services.accounts.ensure(credentials["username"], credentials["key"])


def _write_privately(path: Path, value: dict[str, str]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with storage_errors(path):
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump(value, file)
        partial.replace(path)


@contextmanager
def _only_server(state: State) -> Iterator[None]:
    with state.server_lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise BusyError(
                f"a host already runs on {state.folder}; stop it, or name another folder"
            ) from err
        yield


@contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OverflowError as err:
            raise ConfigError(f"port {port}: choose 0 to 65535, 0 for any free one") from err
        except OSError as err:
            raise HostError(f"cannot listen on port {port}: {err.strerror}; name another") from err
        # From here on callers wait in the queue; nobody is refused who knows the port.
        listener.listen()
        yield listener


def exit_when_unused(state: State) -> None:
    """End this process, from a thread, once no command holds the users lock any more.

    The kernel drops a dead command's lock, so no server outlives its users, however they ended.
    """

    def wait() -> None:
        with state.users_lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _leave(state)

    threading.Thread(target=wait, daemon=True).start()


def _leave(state: State) -> NoReturn:
    """End the process. A thread may be building a competition: what it writes appears whole."""
    state.address.unlink(missing_ok=True)
    os._exit(0)
