from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina

from pipeline.client.client import KaggleClient
from pipeline.client.endpoint import Endpoint, local_endpoint
from tests.client.fault_server import KEY, USERNAME, FaultServer, running_server


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with running_server() as running:
        yield running


@pytest.fixture
def endpoint(server: FaultServer, tmp_path: Path) -> Endpoint:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return local_endpoint(server.port, USERNAME, KEY, "instance-1", scratch=scratch)


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[KaggleClient]:
    with KaggleClient(endpoint, timeout=20) as opened:
        yield opened


@pytest.fixture
def no_pauses() -> Iterator[None]:
    """As many attempts as in earnest, without the pauses between them."""
    with stamina.set_testing(True, attempts=10, cap=True):
        yield
