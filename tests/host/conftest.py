from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from pipeline.host.lifecycle import local_host
from tests.host.running import Caller, Host

_numbers = count()


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    state: Path = tmp_path_factory.mktemp("host") / "state"
    with local_host("digits", state=state) as address:
        yield Host(address, state)


@pytest.fixture
def user(host: Host) -> Caller:
    return host.user(f"user-{next(_numbers)}")
