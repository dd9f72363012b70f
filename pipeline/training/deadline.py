"""A wall-clock budget, or the system asking to end: training stops and loses nothing."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from pipeline.errors import BudgetError, ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(slots=True)
class Deadline:
    """When to stop, in seconds since the epoch (`time.time`, so that processes can share it)."""

    at: float = float("inf")
    stopped_by: str | None = None

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline `seconds` from now."""
        return cls(time.time() + seconds)

    @property
    def has_come(self) -> bool:
        """Whether to stop now; cheap enough to ask at every step."""
        return self.stopped_by is not None or time.time() >= self.at

    @property
    def seconds_left(self) -> float:
        """Until it comes; infinite for one that never does."""
        return 0.0 if self.stopped_by else max(0.0, self.at - time.time())

    def set_off(self) -> None:
        """Let it come now, unless it has."""
        self.at = min(self.at, time.time())

    def check(self) -> None:
        """Stop here if it has come.

        Raises:
            BudgetError: it has, or a signal asked to stop.
        """
        if self.has_come:
            why = self.stopped_by or "the time budget ended"
            raise BudgetError(f"{why} while training; rerun to continue from here")

    @contextmanager
    def heeding_signals(self, *numbers: signal.Signals) -> Iterator[None]:
        """Within it these signals set the deadline off; without any, SIGTERM: a scheduler's."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.stopped_by = f"{signal.Signals(number).name} came"

        before = {each: signal.signal(each, stop) for each in numbers or (signal.SIGTERM,)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def parse_budget(text: str) -> float:
    """Seconds of a budget such as 11h, 90m or 1h30m; an empty one never ends.

    Raises:
        ConfigError: it is written otherwise.
    """
    if not text:
        return float("inf")
    if not re.fullmatch(r"(\d+(\.\d+)?[hms])+", text):
        raise ConfigError(f"BUDGET={text!r}: write hours, minutes or seconds, such as 11h or 1h30m")
    return sum(
        float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text)
    )
