"""When a failed call is made again, and how long it waits first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from pipeline.client.failures import CallFailedError

T = TypeVar("T")

ATTEMPTS = 4
# A host that asks for a longer pause than this is better asked again by a person.
LONGEST_PAUSE_SECONDS = 120.0


def call_with_retries(call: Callable[[], T], *, worth_retrying: Callable[[Exception], bool]) -> T:
    """Call until it succeeds, `ATTEMPTS` times at most, where the failure is worth it.

    Pauses as long as the host's Retry-After says, else 1, 2, 4 seconds.

    Raises:
        CallFailedError: the last attempt failed, or the failure was not worth retrying.
    """

    def pause_after(err: Exception) -> bool | float:
        if not worth_retrying(err) or not isinstance(err, CallFailedError):
            return False
        pause = err.failure.retry_after
        if pause is None:
            return True
        return pause if pause <= LONGEST_PAUSE_SECONDS else False

    set_on_retry_hooks([_say_so])
    for attempt in stamina.retry_context(
        on=pause_after,
        attempts=ATTEMPTS,
        timeout=None,
        wait_initial=1.0,
        wait_max=8.0,
        wait_jitter=0.5,
    ):
        with attempt:
            return call()
    raise AssertionError("stamina yields at least one attempt")


def is_passing(err: Exception) -> bool:
    """Whether a read may be repeated: the host is busy, broken or out of reach."""
    return isinstance(err, CallFailedError) and err.failure.is_passing


def is_rate_limited(err: Exception) -> bool:
    """Whether the host refused to look at the request at all, so that nothing was done."""
    return isinstance(err, CallFailedError) and err.failure.status == 429


def _say_so(details: RetryDetails) -> None:
    print(f"{details.caused_by}; trying again in {details.wait_for:.0f} s", file=sys.stderr)
