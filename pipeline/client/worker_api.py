"""The client itself, inside the worker."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def signed_in_api() -> Any:
    """The client, authenticated; its own import tries first and hides why it failed."""
    import kaggle

    if kaggle.api.CONFIG_NAME_AUTH_METHOD not in kaggle.api.config_values:
        kaggle.api.authenticate()
    return kaggle.api
