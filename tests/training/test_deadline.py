"""Budgets are read, and signals heeded."""

from __future__ import annotations

import os
import signal

import pytest

from pipeline.errors import BudgetError, ConfigError
from pipeline.training.deadline import Deadline, parse_budget


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("11h", 39600), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("0.5h", 1800)],
)
def test_a_budget_in_hours_minutes_and_seconds(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


def test_no_budget_never_ends() -> None:
    assert not Deadline.after(parse_budget("")).has_come


def test_no_time_is_left_behind_a_deadline() -> None:
    assert Deadline.after(-5).seconds_left == 0
    assert 0 < Deadline.after(5).seconds_left <= 5


@pytest.mark.parametrize("text", ["11", "eleven hours", "h", "-1h", "1h 30m"])
def test_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"BUDGET=.*write hours, minutes or seconds"):
        parse_budget(text)


def test_sigterm_sets_the_deadline_off_and_the_former_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    deadline = Deadline()

    with deadline.heeding_signals():
        os.kill(os.getpid(), signal.SIGTERM)

    assert deadline.has_come
    assert deadline.seconds_left == 0
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(BudgetError, match="SIGTERM came while training; rerun to continue"):
        deadline.check()
