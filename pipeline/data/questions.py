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
    where = definition_path(competition)
    return ConfigError(f"{problem}; set `{key}` in {where}{_listed(candidates)}")


def to_decide_both(
    competition: Competition,
    key: str,
    problem: str,
    candidates: Sequence[str],
    *,
    then: tuple[str, str, Sequence[str]],
) -> ConfigError:
    """As `to_decide`; one of the candidates asks for a further key: `then` is (candidate, key,
    its candidates).
    """
    choice, further, choices = then
    first = to_decide(competition, key, problem, candidates)
    return ConfigError(f"{first}; with {choice} set `{further}` too{_listed(choices)}")


def _listed(candidates: Sequence[str]) -> str:
    if not candidates:
        return ""
    more = f" and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
    return f", candidates: {', '.join(candidates[:_SHOWN])}{more}"


def definition_path(competition: Competition) -> str:
    """Where a person overrides the definition of `competition`."""
    return f"data/{competition.slug}/{DEFINITION}"
