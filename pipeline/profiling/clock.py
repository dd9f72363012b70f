"""Time as the device sees it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch


class Clock:
    """Takes marks in the stream of work and tells the seconds between them.

    On CUDA a mark is an event in the stream, so nothing waits until the times are asked for; a
    step bound by its kernel launches is measured as such.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._marks: list[float | torch.cuda.Event] = []

    def mark(self) -> None:
        """Note the present moment in the stream of work."""
        if self.device != "cuda":
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def intervals(self) -> list[float]:
        """Seconds between each mark and the next since the last call, and forget them."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        marks, self._marks = self._marks, []
        return [_seconds(first, second) for first, second in itertools.pairwise(marks)]

    def seconds(self, run: Callable[[], object]) -> float:
        """How long `run` takes."""
        self.mark()
        run()
        self.mark()
        return self.intervals()[-1]


def _seconds(first: float | torch.cuda.Event, second: float | torch.cuda.Event) -> float:
    if isinstance(first, float) and isinstance(second, float):
        return second - first
    assert isinstance(first, torch.cuda.Event)
    assert isinstance(second, torch.cuda.Event)
    return float(first.elapsed_time(second)) / 1000
