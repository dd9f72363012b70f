"""What is fuzzed: each target has good inputs to begin with, and fails at one that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from tests.fuzz.check_target import CheckTarget
from tests.fuzz.host_target import HostTarget
from tests.fuzz.layout_target import LayoutTarget


class Target(Protocol):
    """Takes bytes; `words` are what a mutation may well put in."""

    words: tuple[bytes, ...]

    def seeds(self) -> Iterator[bytes]:
        """Good inputs, of every kind."""

    def run(self, data: bytes) -> None:
        """Fail if the code under test does what it does not promise."""


TARGETS: dict[str, Callable[[Path], Target]] = {
    "check": CheckTarget,
    "host": HostTarget,
    "layout": LayoutTarget,
}
