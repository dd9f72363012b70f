"""How this room asks for what the files leave open: which key, in which file, out of what."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.competition import DEFINITION, Competition
from pipeline.errors import ConfigError

_SHOWN = 10


def to_decide(
    competition: Competition, key: str, problem: str, candidates: Sequence[str] = ()
) -> ConfigError:
    """The error that asks a person to set `key`, for example `[data] label_column`."""
    message = f"{problem}; set `{key}` in {definition_path(competition)}"
    if candidates:
        more = f" and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
        message += f", candidates: {', '.join(candidates[:_SHOWN])}{more}"
    return ConfigError(message)


def definition_path(competition: Competition) -> str:
    """Where a person overrides the definition of `competition`."""
    return f"data/{competition.slug}/{DEFINITION}"
