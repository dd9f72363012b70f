"""A wall-clock budget: a session that ends by itself loses nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline.errors import BudgetError


@dataclass(frozen=True, slots=True)
class Deadline:
    """When to stop, in seconds since the epoch (`time.time`, so that processes can share it)."""

    at: float = float("inf")

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline `seconds` from now."""
        return cls(time.time() + seconds)

    def check(self, needed: float) -> None:
        """Stop here unless at least `needed` seconds are left.

        Raises:
            BudgetError: they are not.
        """
        if time.time() + needed > self.at:
            raise BudgetError("the time budget ended while training; rerun to continue from here")
