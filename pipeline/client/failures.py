"""How a failed call of the client becomes one clear line with an exit code."""

from __future__ import annotations

import errno
import shlex
import sys
from dataclasses import dataclass, replace

from pipeline.client.endpoint import Endpoint
from pipeline.errors import (
    AccessError,
    ConfigError,
    CredentialsError,
    HostError,
    OutageError,
    PipelineError,
    StorageError,
)

_TOKEN_PAGE = "https://www.kaggle.com/settings/api"


@dataclass(frozen=True, slots=True)
class Failure:
    """What the worker reports.

    `kind` is one of http, connection, credentials, protocol, storage, import (from the worker),
    timeout and died (from its parent).
    """

    kind: str
    message: str = ""
    status: int | None = None
    retry_after: float | None = None
    errno: int | None = None

    @property
    def is_passing(self) -> bool:
        """Whether the same call may succeed a little later."""
        if self.kind == "http":
            return self.status == 429 or (self.status or 0) >= 500
        return self.kind == "connection"

    def with_message(self, message: str) -> Failure:
        """The same failure in other words."""
        return replace(self, message=message)

    def __str__(self) -> str:
        code = f"HTTP {self.status}" if self.kind == "http" else self.kind
        return f"{code}: {self.message}" if self.message else code


class CallFailedError(Exception):
    """A call of the client failed. Never leaves this room: `error_for` says it to the user."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


def error_for(
    failure: Failure, endpoint: Endpoint, doing: str, competition: str | None
) -> PipelineError:
    """The error to raise for a failure while `doing` something, mostly about a competition."""
    where = f"{endpoint.title}: {doing} failed"
    if failure.kind == "credentials" or failure.status == 401:
        return _credentials_error(endpoint)
    if failure.status == 403 and competition:
        return AccessError(
            f"{endpoint.title} refused access to {competition!r} ({failure}); accept the rules "
            f"{_where_to_accept(endpoint, competition)} and rerun"
        )
    if failure.status == 404 and competition:
        return ConfigError(
            f"{endpoint.title} has no competition {competition!r} ({failure}); "
            "check the slug, the last part of the competition's address"
        )
    if failure.kind == "storage":
        return _storage_error(failure, where)
    told = OutageError if failure.is_passing or failure.kind == "timeout" else HostError
    return told(f"{where} ({failure}); {_remedy(failure, endpoint)}")


def _where_to_accept(endpoint: Endpoint, competition: str) -> str:
    if endpoint.name == "kaggle":
        return f"at https://www.kaggle.com/competitions/{competition}/rules"
    user = endpoint.environment["KAGGLE_USERNAME"]
    command = [sys.executable, "-m", "pipeline.host", "rules", user, competition, "accept"]
    return f"with `{shlex.join(command)}`"


def _credentials_error(endpoint: Endpoint) -> CredentialsError:
    if endpoint.name == "local":
        return CredentialsError(
            f"{endpoint.title} refused its own user's key; stop every running host and rerun"
        )
    return CredentialsError(
        "kaggle.com refused the credentials: expired, revoked or mistyped; "
        f"make a new token at {_TOKEN_PAGE}, set KAGGLE_API_TOKEN to it and rerun"
    )


def _storage_error(failure: Failure, where: str) -> StorageError:
    if failure.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageError(f"{where}: the disk is full; free some space and rerun")
    return StorageError(f"{where}: {failure.message}; make the folder writable and rerun")


def _remedy(failure: Failure, endpoint: Endpoint) -> str:
    if failure.kind == "import":
        return "run `make setup` to install the kaggle client again"
    if failure.kind == "http" and failure.status == 429:
        return "too many requests: wait some minutes and rerun"
    if failure.kind == "connection" and endpoint.name == "kaggle":
        return "check the network and rerun"
    if failure.kind == "http" and failure.status == 400:
        return "mend what the answer names and rerun; nothing was changed here"
    return "rerun; nothing was changed here"
