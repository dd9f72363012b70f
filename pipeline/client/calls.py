"""One endpoint's calls of the client: repeated where that is safe, their failures put in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.client.endpoint import Endpoint
from pipeline.client.failures import CallFailedError, Failure, error_for
from pipeline.client.process import WorkerProcess
from pipeline.client.retries import call_with_retries, is_passing, is_rate_limited

UPLOAD_BYTES_PER_SECOND = 50_000  # a slower upload counts as hung


class Calls:
    """Calls operations of the worker.

    `timeout` is how many seconds a call may take, or a transfer may stand still.
    """

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self.endpoint = endpoint
        self._timeout = timeout
        self._worker = WorkerProcess(endpoint.environment)

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def read(
        self, operation: str, progress: Callable[[], int] | None = None, **arguments: Any
    ) -> Any:
        """Call an operation that changes nothing at the host, again where the failure may pass.

        Raises:
            CallFailedError: the last attempt failed.
        """
        return call_with_retries(
            lambda: self._worker.call(
                operation, arguments, timeout=self._timeout, progress=progress
            ),
            worth_retrying=is_passing,
        )

    def write(
        self,
        operation: str,
        *,
        more_seconds: float = 0.0,
        worth_retrying: Callable[[Exception], bool] = is_rate_limited,
        **arguments: Any,
    ) -> Any:
        """Call an operation that must not happen twice: again only where it surely did not happen.

        Raises:
            CallFailedError: it failed; only the host knows whether it happened.
        """
        return call_with_retries(
            lambda: self._worker.call(operation, arguments, timeout=self._timeout + more_seconds),
            worth_retrying=worth_retrying,
        )

    @contextmanager
    def errors(self, doing: str, competition: str | None = None) -> Iterator[None]:
        """Turn a failed call into the error that the user gets to see."""
        try:
            yield
        except CallFailedError as failed:
            raise error_for(failed.failure, self.endpoint, doing, competition) from None


def is_refusal(failure: Failure) -> bool:
    """Whether the host said no, so that a write surely did not happen."""
    return failure.kind == "credentials" or 400 <= (failure.status or 0) < 500
