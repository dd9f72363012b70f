"""Where Kaggle's credentials lie, and how they are kept out of every text that is shown."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

HIDDEN = "***"


def known_secrets(environment: Mapping[str, str]) -> list[str]:
    """Every key and token that the kaggle client would find with this environment.

    The places are the client's own: an access token in the environment or under HOME, the legacy
    user name and key in the environment or in kaggle.json, and the OAuth file.
    """
    return _access_tokens(environment) + _legacy_keys(environment) + _oauth_tokens(environment)


def half_credentials(environment: Mapping[str, str]) -> str | None:
    """What lies where credentials do and yet is none, so that the client finds nothing; or None."""
    path = _config_folder(environment) / "kaggle.json"
    if _legacy_keys(environment):
        return None
    if path.exists():
        return f"{path} does not hold a username and a key"
    names = [name for name in ("KAGGLE_USERNAME", "KAGGLE_KEY") if environment.get(name)]
    return f"{names[0]} is set alone, without the other of the two" if names else None


def scrub(text: str, environment: Mapping[str, str]) -> str:
    """Replace every known secret in `text`, longest first, so that no part of one is left."""
    for secret in sorted(known_secrets(environment), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _access_tokens(environment: Mapping[str, str]) -> list[str]:
    tokens = []
    if value := environment.get("KAGGLE_API_TOKEN", ""):
        # The variable holds the token itself or the path of a file that holds it. A line's end
        # that was copied with it is no part of it: in a text it would be written another way.
        tokens.append(_read(Path(value)) or value.strip())
    folder = _home(environment) / ".kaggle"
    tokens += [_read(folder / name) for name in ("access_token", "access_token.txt")]
    return [token for token in tokens if token]


def _legacy_keys(environment: Mapping[str, str]) -> list[str]:
    # As in the client, a variable overrides the file's value of the same name.
    values = _read_object(_config_folder(environment) / "kaggle.json")
    values |= {
        name: environment[f"KAGGLE_{name.upper()}"]
        for name in ("username", "key")
        if f"KAGGLE_{name.upper()}" in environment
    }
    username, key = values.get("username"), values.get("key", "")
    if not username or not key.strip():
        return []
    return [key.strip(), base64.b64encode(f"{username}:{key}".encode()).decode()]


def _oauth_tokens(environment: Mapping[str, str]) -> list[str]:
    values = _read_object(_home(environment) / ".kaggle" / "credentials.json")
    if not values.get("refresh_token"):
        return []
    return [values[name] for name in ("refresh_token", "access_token") if values.get(name)]


def _config_folder(environment: Mapping[str, str]) -> Path:
    if folder := environment.get("KAGGLE_CONFIG_DIR"):
        return Path(folder)
    legacy = _home(environment) / ".kaggle"
    if legacy.exists():
        return legacy
    return Path(environment.get("XDG_CONFIG_HOME") or _home(environment) / ".config") / "kaggle"


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment["HOME"]) if environment.get("HOME") else Path.home()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):  # absent, a folder, or a token too odd to be a path
        return ""


def _read_object(path: Path) -> dict[str, str]:
    try:
        values = json.loads(_read(path))
    except ValueError:
        return {}
    return {k: v for k, v in values.items() if isinstance(v, str)} if type(values) is dict else {}
