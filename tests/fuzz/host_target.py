"""Bytes as what a client sends over one connection to the local host."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import uvicorn
from fastapi.routing import APIRoute
from uvicorn.server import ServerState

from pipeline.host.app import create_app
from pipeline.host.routes import blobs, competitions, datasets, kernels, pushes, submissions, users
from pipeline.host.server import _Protocol
from pipeline.host.services import Services
from pipeline.host.state import State

# The user is called as the competition, so that seeds name kernels and datasets of their own.
NAME, KEY = "digits", "0123456789abcdef0123456789abcdef"
TOKEN = base64.b64encode(f"{NAME}:{KEY}".encode()).decode()
PATIENCE_SECONDS, LONGEST_SECONDS = 0.2, 10
MODULES = (users, competitions, submissions, pushes, kernels, datasets, blobs)
ROUTERS = [*(module.router for module in MODULES), kernels.streams]
_FAILURE = re.compile(rb"^HTTP/1\.1 500", re.MULTILINE)
_VALUES = {"integer": 1, "boolean": True, "number": 0.5, "array": ["1"], "string": NAME}


class _Connection(asyncio.Transport):
    """Keeps what the server sends; the other end is a test."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 50000), "sockname": ("127.0.0.1", 80)})
        self.sent, self._closing = bytearray(), False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...


class HostTarget:
    """The real application and parser over a host with one user; its kernels never start."""

    words = (
        *(b"POST ", b"GET ", b"PUT ", b"/api/v1/", b"\r\n\r\n", b"Content-Length: ", b"chunked"),
        *(b"Authorization: Bearer ", b"Range: bytes=", b"null", b"{}", b"[]", b"1e400", b"\\ud800"),
        *(b'"pageToken"', b'"pageSize"', b"99999999999999999999", b"%2e%2e/", b"%00"),
    )

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        services = Services.open(State(folder))
        services.accounts.ensure(NAME, KEY)
        services.preparation.ensure(NAME)
        self._config = uvicorn.Config(
            create_app(services),
            http=_Protocol,
            lifespan="off",
            log_level="error",
            access_log=False,
        )
        self._config.load()
        self._failures: list[str] = []
        handler = logging.Handler(logging.ERROR)
        handler.emit = lambda record: self._failures.append(  # type: ignore[method-assign]
            logging.Formatter().format(record)
        )
        logging.getLogger("uvicorn.error").addHandler(handler)

    def seeds(self) -> Iterator[bytes]:
        """One good request to every method, with each of its fields filled in."""
        for route in (route for router in ROUTERS for route in router.routes):
            assert isinstance(route, APIRoute)
            for method in sorted(route.methods):
                yield _request(method, _path_of(route), _body_of(route))

    def run(self, data: bytes) -> None:
        """Fails where the host answers 500, raises, or does not come to an end."""
        sent = self.answer(data)
        assert not self._failures, self._failures
        assert not _FAILURE.search(sent), sent

    def answer(self, data: bytes) -> bytes:
        """All that the host sends back."""
        state = ServerState()
        protocol = _Protocol(self._config, state, {}, self._loop)
        connection = _Connection()
        protocol.connection_made(connection)
        self._loop.run_until_complete(self._converse(protocol, state, data))
        return bytes(connection.sent)

    async def _converse(self, protocol: _Protocol, state: ServerState, data: bytes) -> None:
        protocol.data_received(data)
        with suppress(TimeoutError):  # a log may be followed until its reader leaves
            async with asyncio.timeout(PATIENCE_SECONDS):
                while state.tasks and not protocol.cycle.more_body:
                    await asyncio.wait(state.tasks, return_when=asyncio.FIRST_COMPLETED)
        protocol.connection_lost(None)
        async with asyncio.timeout(LONGEST_SECONDS):
            while state.tasks:
                await asyncio.wait(state.tasks)


def _path_of(route: APIRoute) -> str:
    return re.sub(r"{\w+}", NAME, route.path)


def _body_of(route: APIRoute) -> bytes:
    if route.body_field is None:
        return b""
    model = route.body_field.field_info.annotation
    assert model is not None
    fields = model.model_json_schema()["properties"]
    return json.dumps({name: _value(name, field) for name, field in fields.items()}).encode()


def _value(name: str, field: dict[str, Any]) -> object:
    if name == "pageToken":
        return "0"
    kinds = [field, *field.get("anyOf", [])]
    allowed = [kind["enum"][0] for kind in kinds if "enum" in kind]
    return next(
        chain(allowed, (_VALUES[kind["type"]] for kind in kinds if kind.get("type") in _VALUES)),
        None,
    )


def _request(method: str, path: str, body: bytes) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Basic {TOKEN}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
