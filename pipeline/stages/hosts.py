"""Which host a command talks to, and the client that talks to it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from pipeline.client.client import KaggleClient
from pipeline.client.credentials import half_credentials
from pipeline.client.endpoint import (
    KAGGLE_INSTANCE,
    HostName,
    has_kaggle_credentials,
    kaggle_endpoint,
    local_endpoint,
)
from pipeline.errors import ConfigError, CredentialsError
from pipeline.host.lifecycle import available_competitions, default_state, local_host
from pipeline.host.state import State
from pipeline.stages.client_home import client_home
from pipeline.stages.console import say

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class HostChoice:
    """The host to use, in one word, and the line that says why."""

    name: HostName
    reason: str

    @property
    def instance(self) -> str | None:
        """The instance that uploads belong to, told without starting anything; None: not known."""
        return KAGGLE_INSTANCE if self.name == "kaggle" else _local_instance()


def choose_host(asked: str) -> HostChoice:
    """Decide between kaggle.com and the local host; `asked` is auto, kaggle or local.

    Raises:
        ConfigError: `asked` is something else.
        CredentialsError: kaggle.com was asked for, and there are no credentials.
    """
    if asked not in {"auto", "kaggle", "local"}:
        raise ConfigError(f"HOST={asked!r} is unknown; choose from auto, kaggle, local")
    if asked == "local":
        return HostChoice("local", "HOST=local: using the local competition host")
    if has_kaggle_credentials():
        return HostChoice("kaggle", "Kaggle credentials found: using kaggle.com")
    half = half_credentials(os.environ)
    of_half = f" ({half})" if half else ""
    if asked == "kaggle":
        raise CredentialsError(
            f"HOST=kaggle, but no Kaggle credentials were found{of_half}; make a token at "
            "https://www.kaggle.com/settings/api and set KAGGLE_API_TOKEN to it or save it in "
            "~/.kaggle/access_token, or use HOST=local"
        )
    return HostChoice(
        "local", f"no Kaggle credentials found{of_half}: using the local competition host"
    )


@contextmanager
def open_client(asked: str, competition: str | None = None) -> Iterator[KaggleClient]:
    """A client of the chosen host, with the local host running meanwhile.

    The local host first builds the data of the competition that is named.

    Raises:
        ConfigError: the host is unknown, or the local host has no such competition.
        CredentialsError: as `choose_host`.
    """
    choice = choose_host(asked)
    if competition is not None:
        check_slug(competition)
    if choice.name == "kaggle":
        _say_once(choice.reason)
        with KaggleClient(kaggle_endpoint()) as client:
            yield client
        return
    if competition is not None:
        _check_offered(competition, choice)
    _say_once(choice.reason)
    with (
        local_host(competition) as address,
        client_home(State(default_state()).client_homes) as scratch,
        KaggleClient(
            local_endpoint(
                address.port,
                address.username,
                address.key,
                address.instance,
                scratch=scratch,
            )
        ) as client,
    ):
        yield client


def check_slug(competition: str) -> None:
    """Refuse a competition name that could not be one, before it becomes part of a path.

    Raises:
        ConfigError: it has other characters than letters, digits, hyphens and underscores.
    """
    if not _SLUG.fullmatch(competition):
        raise ConfigError(
            f"COMPETITION={competition!r} is not a competition's slug; use the last part of its "
            "address, such as dog-vs-cat-vs-bird"
        )


def _check_offered(competition: str, choice: HostChoice) -> None:
    offered = available_competitions()
    if competition not in offered:
        raise ConfigError(
            f"{choice.reason}, which has no competition {competition!r}; choose from "
            f"{', '.join(offered)}, set Kaggle credentials to reach kaggle.com, or, without any "
            f"host, put the files into data/{competition}/raw/ yourself and run "
            f"`make submission COMPETITION={competition}`"
        )


def _local_instance() -> str | None:
    try:
        return State(default_state()).instance.read_text().strip()
    except OSError:  # no host ever ran here, or its state is out of this user's sight
        return None


@cache
def _say_once(line: str) -> None:
    say("host", line)
