"""A session's log: what it printed, one JSON object a line, as Kaggle keeps it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from io import BufferedReader
from pathlib import Path
from types import TracebackType

_MAX_BYTES = 8 * 2**20
_LAST_LINES = 200
_LONGEST_LINE = 2**16
_LINE_END = re.compile(rb"(?<=\n)|(?<=\r)(?!\n)")


class LogWriter:
    """Writes one session's log. Of a log that is too long the end is kept besides the start."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        self._lock = threading.Lock()
        self._started = time.monotonic()
        # By stream: what is still in one pipe must not push out how the other one ended.
        self._ends: dict[str, deque[str]] = {}
        self._left_out = 0
        self.last_error = ""

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None
    ) -> None:
        with self._file as file:
            if self._left_out:
                file.write(self._event("stderr", f"[{self._left_out} lines left out]\n"))
            for end in self._ends.values():
                file.writelines(end)

    def copy(self, stream_name: str, pipe: BufferedReader) -> None:
        """Write what comes out of `pipe` until it is closed, line by line.

        A progress bar never ends its line; each of its states counts as one.
        """
        waiting = b""
        while chunk := pipe.read1(_LONGEST_LINE):
            *lines, waiting = _LINE_END.split(waiting + chunk)
            if len(waiting) >= _LONGEST_LINE:
                lines, waiting = [*lines, waiting], b""
            for line in lines:
                self.write(stream_name, line.decode(errors="replace"))
        if waiting:
            self.write(stream_name, waiting.decode(errors="replace"))

    def write(self, stream_name: str, text: str) -> None:
        """Write one line. What goes to stderr last is remembered as `last_error`."""
        with self._lock:
            if stream_name == "stderr" and text.strip():
                self.last_error = text.strip()[:500]
            event = self._event(stream_name, text)
            if self._file.tell() < _MAX_BYTES:
                self._file.write(event)
                self._file.flush()
                return
            end = self._ends.setdefault(stream_name, deque(maxlen=_LAST_LINES))
            self._left_out += len(end) == _LAST_LINES
            end.append(event)

    def _event(self, stream_name: str, text: str) -> str:
        seconds = round(time.monotonic() - self._started, 3)
        return json.dumps({"stream_name": stream_name, "time": seconds, "data": text}) + "\n"


def read_events(path: Path, offset: int = 0) -> tuple[list[str], int]:
    """The whole lines from byte `offset` on, and the offset behind them."""
    if not path.is_file():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        whole, newline, _ = file.read().rpartition(b"\n")
    return whole.decode().splitlines(), offset + len(whole) + len(newline)


def as_array(path: Path) -> str:
    """The log so far as one JSON array with an event a line; empty before anything is printed."""
    events, _ = read_events(path)
    return "[" + "\n,".join(events) + "\n]" if events else ""
