"""What a competition is: its metric, classes, files and submission form.

A definition is a TOML. The package ships some (`pipeline/competitions/`); a user's own
`data/<competition>/competition.toml` overrides them key by key; what neither says is inferred
from the competition's files by `pipeline.data`.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import ConfigError

T = TypeVar("T")

DEFINITION = "competition.toml"
VALUES = ("label", "index", "probabilities", "probability")
LAYOUTS = ("folders", "table", "filenames", "pixels", "arrays", "idx")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSpec:
    """Where the images and labels are. Paths are relative to the raw folder; None: inferred."""

    layout: str | None = None
    train: str | None = None
    train_labels: str | None = None
    test: str | None = None
    id_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    size: int | None = None
    mirror: bool = True  # a mirrored image keeps its label (not so for digits)

    def __post_init__(self) -> None:
        _one_of("data.layout", self.layout, LAYOUTS)
        if self.size is not None and not 8 <= self.size <= 1024:
            raise ConfigError(f"data.size={self.size}: choose 8 to 1024 pixels")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionSpec:
    """What the sample submission looks like; None: read from the sample itself."""

    sample: str | None = None
    id: str | None = None
    target: str | None = None
    values: str | None = None
    positive: str | None = None

    def __post_init__(self) -> None:
        _one_of("submission.values", self.values, VALUES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Competition:
    """One competition. `classes` empty: the sorted labels of the training data."""

    slug: str
    title: str = ""
    metric: str | None = None
    classes: tuple[str, ...] = ()
    data: DataSpec = field(default_factory=DataSpec)
    submission: SubmissionSpec = field(default_factory=SubmissionSpec)

    def as_dict(self) -> dict[str, Any]:
        """The definition as plain values, for keys and run folders."""
        return asdict(self)


def _one_of(key: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise ConfigError(f"{key}={value!r} is unknown; choose from {', '.join(choices)}")


def shipped_competitions() -> list[str]:
    """Slugs of the definitions inside the package."""
    folder = resources.files("pipeline.competitions")
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def load_competition(slug: str, folder: Path) -> Competition:
    """The definition of `slug`: the package's, overridden by `folder`/competition.toml.

    Raises:
        ConfigError: a TOML does not parse, or has an unknown key or value.
    """
    shipped = resources.files("pipeline.competitions") / f"{slug}.toml"
    values: dict[str, Any] = {}
    if slug in shipped_competitions():
        values = _parse(shipped.read_text(encoding="utf-8"), f"{slug}.toml")
    own = folder / DEFINITION
    if own.is_file():
        values = _merge(values, _parse(own.read_text(encoding="utf-8"), str(own)))
    return competition_from(slug, values, str(own))


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{where} is not valid TOML: {err}") from err


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


def competition_from(slug: str, values: dict[str, Any], where: str) -> Competition:
    """A competition from plain values, as a TOML or `Competition.as_dict` holds them.

    Raises:
        ConfigError: a key or value is unknown; `where` names the file.
    """
    values = {**values, "slug": slug}
    values["data"] = _typed(DataSpec, values.get("data", {}), f"{where} [data]")
    values["submission"] = _typed(
        SubmissionSpec, values.get("submission", {}), f"{where} [submission]"
    )
    values["classes"] = tuple(str(name) for name in values.get("classes", ()))
    return _typed(Competition, values, where)


def _typed(kind: type[T], values: dict[str, Any], where: str) -> T:
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known keys: {', '.join(known)}")
    return kind(**values)
