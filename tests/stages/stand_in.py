"""Lets the stages meet a misbehaving server where they expect the local host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from pipeline.host.lifecycle import HostAddress
from tests.client.fault_server import KEY, USERNAME

INSTANCE = "fault-server"


def host_at(port: int) -> Callable[[str | None], AbstractContextManager[HostAddress]]:
    """In place of `local_host`: a host that runs already, on `port`."""
    return host_of(HostAddress(port=port, username=USERNAME, key=KEY, instance=INSTANCE))


def host_of(address: HostAddress) -> Callable[[str | None], AbstractContextManager[HostAddress]]:
    """In place of `local_host`: a host that runs already, at `address`."""

    @contextmanager
    def running(competition: str | None = None) -> Iterator[HostAddress]:
        yield address

    return running
