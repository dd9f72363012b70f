"""Waiting for a kernel: its status polled, its log printed as it grows and kept in the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from pipeline.artifacts import write_whole
from pipeline.client.client import KaggleClient
from pipeline.client.kernels import KernelStatus, KernelVersion
from pipeline.errors import HostError, OutageError
from pipeline.stages.console import say

T = TypeVar("T")

LOG = "kernel.log"
HOURS_TO_RUN = 12.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0
_PAUSE_GROWTH = 1.2
# A kernel runs on while Kaggle or the network is away; on the local host it ends with its host.
_LONGEST_OUTAGE_SECONDS = {"kaggle": 3600.0, "local": 0.0}
_TAIL_LINES = 20
_LONGEST_LAST_LINE = 200


def wait_for_kernel(client: KaggleClient, pushed: KernelVersion, folder: Path) -> KernelStatus:
    """Wait until the version has ended, and leave its whole log in `folder`.

    Raises:
        HostError: it has not ended in the hours that a kernel may run.
    """
    started, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
    log, outlast = _FollowedLog(client, pushed), partial(_outlast, client)
    with _progress_line() as show:
        while not (status := outlast(partial(client.kernels.status, pushed))).ended:
            waited = time.monotonic() - started
            show(f"{pushed} {status.state.lower()}, {_clock(waited)}")
            outlast(log.print_new)
            if waited >= 3600 * HOURS_TO_RUN:
                _keep(folder, log.text)
                raise HostError(
                    f"{client.endpoint.title}: {pushed} is {status.state} after {HOURS_TO_RUN:.0f} "
                    f"hours; its log so far is in {folder / LOG}; rerun to go on waiting"
                )
            time.sleep(pause)
            pause = min(_PAUSE_GROWTH * pause, _LONGEST_PAUSE_SECONDS)
        outlast(log.print_new)
    _keep(folder, outlast(partial(client.kernels.log, pushed)) or log.text)
    say("kernel", f"{pushed} ended: {status.state}, after {_clock(time.monotonic() - started)}")
    return status


def _outlast(client: KaggleClient, read: Callable[[], T]) -> T:
    """What `read` returns, asked again for as long as the kernel may outlast the host's silence.

    Raises:
        OutageError: it took longer.
    """
    end = time.monotonic() + _LONGEST_OUTAGE_SECONDS[client.endpoint.name]
    while True:
        try:
            return read()
        except OutageError:
            if time.monotonic() >= end:
                raise
            say("kernel", f"no answer; {client.endpoint.title} is asked again in a minute")
            time.sleep(_LONGEST_PAUSE_SECONDS)


def failure_text(folder: Path, what: str) -> str:
    """One line on a failed kernel, with the last line of its log; the log's tail is printed."""
    lines = [line for line in _lines((folder / LOG).read_text()) if line.strip()]
    for line in lines[-_TAIL_LINES:]:
        print(f"  | {line}", file=sys.stderr)
    last = f"its log ends {lines[-1].strip()[:_LONGEST_LAST_LINE]!r}" if lines else "it has no log"
    return f"{what}; {last}; all of it is in {folder / LOG}; FORCE=1 pushes the kernel again"


class _FollowedLog:
    """Prints whole lines of a log that comes in pieces."""

    def __init__(self, client: KaggleClient, pushed: KernelVersion) -> None:
        self.text = ""
        self._kernels = client.kernels
        self._pushed = pushed
        self._events = self._printed = 0

    def print_new(self) -> None:
        """Print the lines that were completed since the last call."""
        events = self._kernels.follow_log(self._pushed, self._events)
        self._events += len(events)
        self.text += "".join(events)
        end = self.text.rfind("\n") + 1
        if end > self._printed:
            for line in filter(None, _lines(self.text[self._printed : end])):
                print(f"  | {line}", flush=True)
            self._printed = end


@contextmanager
def _progress_line() -> Iterator[Callable[[str], None]]:
    """A line that is kept at the bottom of a terminal; elsewhere a line per change of state."""
    console = Console()
    if console.is_terminal:
        with console.status("waiting for the kernel") as line:
            yield line.update
        return
    shown = ""

    def show(text: str) -> None:
        nonlocal shown
        state = text.split(",")[0]
        if state != shown:
            shown = state
            say("kernel", state)

    yield show


def _keep(folder: Path, log: str) -> None:
    write_whole(folder / LOG, log.encode())


def _lines(text: str) -> list[str]:
    """The lines as a terminal shows them: a progress bar is its last state."""
    return [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
