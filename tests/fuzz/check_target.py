"""Bytes as a metric's number and a submission after it: check and scorer must agree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.host.test_check_agrees import WHOLE, agreed_verdict

METRICS = list(WHOLE)


class CheckTarget:
    """Judges files in one folder."""

    words = (
        b"nan",
        b"inf",
        b"0.5",
        b"1e-1",
        b"cat",
        b"dog",
        b"cat dog",
        b'"',
        b",",
        b"\xef\xbb\xbf",
    )

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def seeds(self) -> Iterator[bytes]:
        """A good file of each metric's form."""
        for number, lines in enumerate(WHOLE.values()):
            yield bytes([number]) + "\n".join([*lines, ""]).encode()

    def run(self, data: bytes) -> None:
        """Fails where check and scorer differ, and where either raises what it does not promise."""
        number, content = data[:1], data[1:]
        if number:
            agreed_verdict(self._folder, METRICS[number[0] % len(METRICS)], content)
