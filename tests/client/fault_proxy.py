"""A proxy before the real local host: forwards every call, and spoils what its schedule says.

A fault comes before the host has seen the call, or after the host has done what was asked, and
then only the answer is lost or damaged.
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from pipeline.client.retries import ATTEMPTS
from tests.client.fault_server import (
    Fault,
    FaultServer,
    Handler,
    redirect_for_ever,
    refuse,
    send_page,
    then,
)

METHODS = (
    *("ListDataFiles", "DownloadDataFiles", "GET", "ListSubmissions", "GetSubmissionLimits"),
    *("StartSubmissionUpload", "PUT", "CreateSubmission", "GetSubmission"),
)
# From the call on whose lost answer makes duplicates, more is spoilt than before it.
_SHARE_FROM_CREATION_ON = 0.7
_BROKEN_SHARE = 0.3
_OF_THE_CONNECTION = {"connection", "content-length", "date", "server", "transfer-encoding"}


class Schedule:
    """Decides by its seed alone which call meets which fault.

    A call is known by its method and by how many calls of that method came before it, so that
    nothing changes when a score is asked for once more. Half of the schedules spare what comes
    before the creation of the submission. In some one method fails for ever in the same way; no
    other method fails as often in a row as the client tries.
    """

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self._seed = seed
        self._share_before_creation = rng.choice([0, 1 / 3])
        self._broken = rng.choice(METHODS) if rng.random() < _BROKEN_SHARE else None

    def fault(self, method: str, earlier: int, *, before_creation: bool) -> str | None:
        """The name in `FAULTS` of what meets a call after `earlier` ones of its method."""
        if method == self._broken:
            return random.Random(f"{self._seed} {method}").choice(list(FAULTS))
        rng = random.Random(f"{self._seed} {method} {earlier}")
        share = self._share_before_creation if before_creation else _SHARE_FROM_CREATION_ON
        is_spared = earlier % ATTEMPTS == ATTEMPTS - 1
        return rng.choice(list(FAULTS)) if rng.random() < share and not is_spared else None


class FaultProxy(FaultServer):
    """Stands before the host on `host_port`; `met` lists the calls and faults since `follow`."""

    def __init__(self, host_port: int) -> None:
        super().__init__(ProxyHandler)
        self.host_port = host_port
        self.follow(None)

    def follow(self, schedule: Schedule | None) -> None:
        """Begin a schedule; None answers every call."""
        self._schedule = schedule
        self.book.log.clear()
        self.met: list[str] = []

    def next_fault(self, method: str) -> Fault | None:
        if method == "Loop":
            return redirect_for_ever
        if self._schedule is None:
            return None
        name = self._schedule.fault(
            method,
            self.book.count(method) - 1,
            before_creation=self.book.count("CreateSubmission") == 0,
        )
        self.met.append(f"{method}: {name}" if name else method)
        return FAULTS[name] if name else None


@dataclass(frozen=True)
class Answer:
    """What the host answered; `length` is what the header promises."""

    status: int
    headers: dict[str, str]
    body: bytes
    length: int

    @property
    def is_json(self) -> bool:
        return "json" in self.headers.get("content-type", "")


class ProxyHandler(Handler):
    server: FaultProxy

    def operate(self) -> None:
        self.send(self.forward())

    def forward(self) -> Answer:
        """Let the host do what was asked."""
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in _OF_THE_CONNECTION
        }
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.host_port)) as host:
            host.request(self.command, self.path, self.body or None, headers)
            reply = host.getresponse()
            body = reply.read()
        kept = {name.lower(): value for name, value in reply.getheaders()}
        for name in _OF_THE_CONNECTION:
            kept.pop(name, None)
        return Answer(reply.status, kept, body, len(body))

    def send(self, answer: Answer) -> None:
        if not self.replying:
            return
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(answer.length)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)


def reset(handler: Handler) -> None:
    """Reset the connection instead of an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.rfile.close()
    handler.connection.close()
    handler.close_connection = True


def damaged(damage: Callable[[Answer], Answer]) -> Fault:
    """Do what was asked, send a damaged answer and hang up."""

    def forward_and_damage(handler: Handler) -> None:
        assert isinstance(handler, ProxyHandler)
        handler.send(damage(handler.forward()))
        handler.close_connection = True

    return forward_and_damage


def trickle(handler: Handler) -> None:
    """Take 0.3 seconds to send the answer."""
    assert isinstance(handler, ProxyHandler)
    answer = handler.forward()
    handler.send(replace(answer, body=b""))
    third = len(answer.body) // 3 + 1
    for start in range(0, 3 * third, third):
        time.sleep(0.1)
        handler.wfile.write(answer.body[start : start + third])


def _cut(answer: Answer) -> Answer:
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def _longer(answer: Answer) -> Answer:
    return replace(answer, length=answer.length + 7)


def _shorter(answer: Answer) -> Answer:
    return replace(answer, length=max(0, answer.length - 7))


def _of_another_version(answer: Answer) -> Answer:
    return replace(answer, headers={**answer.headers, "etag": '"another"'})


def _with_other_content(answer: Answer) -> Answer:
    """Of the same length. JSON has no checksum: a single wrong letter of it none could notice."""
    if answer.is_json or not answer.body:
        return replace(answer, body=answer.body[::-1])
    middle = len(answer.body) // 2
    flipped = bytes([answer.body[middle] ^ 0xFF])
    return replace(answer, body=answer.body[:middle] + flipped + answer.body[middle + 1 :])


FAULTS: dict[str, Fault] = {
    "429": refuse(429),
    "429 with Retry-After": refuse(429, Retry_After="1"),
    "500": refuse(500),
    "502 page": send_page(502),
    "503": refuse(503),
    "401": refuse(401, "token expired"),
    "HTML": send_page(200),
    "redirect loop": redirect_for_ever,
    "reset": reset,
    "reset after": then(reset),
    "502 page after": then(send_page(502)),
    "HTML after": then(send_page(200)),
    "cut": damaged(_cut),
    "longer Content-Length": damaged(_longer),
    "shorter Content-Length": damaged(_shorter),
    "other ETag": damaged(_of_another_version),
    "other content": damaged(_with_other_content),
    "trickle": trickle,
}
