"""Which host the client talks to, and the environment that makes it do so.

The kaggle client takes its host and its credentials from the environment at import, and sends
them to production for any value of KAGGLE_API_ENVIRONMENT that it does not know. So each endpoint
is the whole environment of one child process, never a change to our own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.client.credentials import known_secrets

HostName = Literal["kaggle", "local"]
KAGGLE_INSTANCE = "kaggle.com"

# In its verbose mode the client prints the Authorization header.
_VERBOSE = {"VERBOSE", "VERBOSE_OUTPUT"}
_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A host, the instance that its submissions belong to, and the child's environment."""

    name: HostName
    instance: str
    # Holds credentials: kept out of every repr, hence out of every traceback.
    environment: dict[str, str] = field(repr=False)

    @property
    def title(self) -> str:
        """The host's name in a sentence."""
        return "kaggle.com" if self.name == "kaggle" else "the local competition host"


def has_kaggle_credentials(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the kaggle client would find credentials for kaggle.com.

    A shell that points `kaggle` at the local host holds that host's credentials, not Kaggle's.
    """
    if _points_at_local_host(environment):
        return False
    return bool(known_secrets(environment))


def kaggle_endpoint() -> Endpoint:
    """kaggle.com, with the user's own credentials and proxies."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _VERBOSE | {"KAGGLE_API_ENVIRONMENT"}
    }
    return Endpoint(name="kaggle", instance=KAGGLE_INSTANCE, environment=environment)


def local_endpoint(port: int, username: str, key: str, instance: str, *, scratch: Path) -> Endpoint:
    """The local competition host on 127.0.0.1:`port`.

    The host is its own HTTP proxy, and the proxy for HTTPS too: it refuses CONNECT, so a slip
    fails instead of leaving the machine. `scratch` is an empty folder that hides the user's own
    configuration and takes the client's temporary files.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("KAGGLE_") and name.upper() not in _VERBOSE | _PROXIES | {"NETRC"}
    }
    proxy = f"http://127.0.0.1:{port}"
    environment |= {
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "KAGGLE_USERNAME": username,
        "KAGGLE_KEY": key,
        "HTTP_PROXY": proxy,
        "http_proxy": proxy,
        "HTTPS_PROXY": proxy,
        "https_proxy": proxy,
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "KAGGLE_CONFIG_DIR": str(scratch),
        "XDG_CONFIG_HOME": str(scratch),
    }
    return Endpoint(name="local", instance=instance, environment=environment)


def _points_at_local_host(environment: Mapping[str, str]) -> bool:
    return environment.get("KAGGLE_API_ENVIRONMENT") == "LOCALHOST"
