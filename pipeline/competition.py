"""What a competition is: its metric, classes, files and submission form.

A definition is a TOML. The package ships some (`pipeline/competitions/`); a user's own
`data/<competition>/competition.toml` overrides them key by key; what neither says is inferred
from the competition's files by `pipeline.data`.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, get_args, get_type_hints

from pipeline.errors import ConfigError
from pipeline.reading import read_errors

T = TypeVar("T")

DEFINITION = "competition.toml"
VALUES = ("label", "index", "labels", "indicators", "probabilities", "probability")
RESIZES = ("crop", "pad", "stretch")
LAYOUTS = ("folders", "table", "filenames", "pixels", "arrays", "idx")

_CALLED: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    str: "a text in quotes",
    tuple[str, ...]: "a list of texts",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSpec:
    """Where the images and labels are. Paths are relative to the raw folder; None: inferred."""

    layout: str | None = None
    train: str | None = None
    train_labels: str | None = None
    test: str | None = None
    id_column: str | None = None
    label_column: str | None = None
    label_separator: str | None = None  # between the labels of one cell
    label_columns: tuple[str, ...] = ()  # one column of 0 and 1 per class
    group_column: str | None = None
    size: int | None = None
    resize: str | None = None  # how images get the size: crop (what None means), pad or stretch
    mirror: bool | None = None  # whether a mirrored image keeps its label (not so for digits)

    def __post_init__(self) -> None:
        _one_of("layout", self.layout, LAYOUTS)
        _one_of("resize", self.resize, RESIZES)
        for key in ("train", "train_labels", "test"):
            _in_raw_folder(key, getattr(self, key))
        if self.label_separator == "":
            raise ConfigError("label_separator='' separates nothing; give what is between labels")
        if self.size is not None and not 8 <= self.size <= 1024:
            raise ConfigError(f"size={self.size}: choose 8 to 1024 pixels")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionSpec:
    """What the sample submission looks like; None: read from the sample itself."""

    sample: str | None = None
    id: str | None = None
    target: str | None = None
    values: str | None = None
    positive: str | None = None

    def __post_init__(self) -> None:
        _one_of("values", self.values, VALUES)
        _in_raw_folder("sample", self.sample)


@dataclass(frozen=True, kw_only=True, slots=True)
class Competition:
    """One competition. `classes` empty: the sorted labels of the training data.

    `multi_label` says whether an image may have several labels, or none; None: read from the data.
    """

    slug: str
    title: str = ""
    metric: str | None = None
    classes: tuple[str, ...] = ()
    multi_label: bool | None = None
    data: DataSpec = field(default_factory=DataSpec)
    submission: SubmissionSpec = field(default_factory=SubmissionSpec)

    def __post_init__(self) -> None:
        repeated = [name for name in self.classes if self.classes.count(name) > 1]
        if repeated:
            raise ConfigError(f"classes: {repeated[0]!r} appears twice; name each class once")

    def with_size(self, size: int) -> Competition:
        """The same with images of `size` pixels; 0 leaves what the definition says.

        Raises:
            ConfigError: the size is out of range.
        """
        return replace(self, data=replace(self.data, size=size)) if size else self

    def as_dict(self) -> dict[str, Any]:
        """The definition as plain values, for keys and run folders."""
        return asdict(self)


def _one_of(key: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise ConfigError(f"{key}={value!r} is unknown; choose from {', '.join(choices)}")


def _in_raw_folder(key: str, path: str | None) -> None:
    if path is not None and (path.startswith("/") or ".." in PurePosixPath(path).parts):
        raise ConfigError(f"{key}={path!r} is outside the raw folder; give a path from there")


def shipped_competitions() -> list[str]:
    """Slugs of the definitions inside the package."""
    folder = resources.files("pipeline.competitions")
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def load_competition(slug: str, folder: Path) -> Competition:
    """The definition of `slug`: the package's, overridden by `folder`/competition.toml.

    Raises:
        ConfigError: a TOML does not parse, or has an unknown key, or a value of another type.
        StorageError: the user's file may not be read.
    """
    shipped = resources.files("pipeline.competitions") / f"{slug}.toml"
    values: dict[str, Any] = {}
    if slug in shipped_competitions():
        values = _parse(shipped.read_bytes(), f"{slug}.toml")
    own = folder / DEFINITION
    with read_errors(own):
        if own.is_file():
            values = _merge(values, _parse(own.read_bytes(), str(own)))
    return competition_from(slug, values, str(own))


def _parse(content: bytes, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as err:
        raise ConfigError(f"{where} is not in UTF-8 ({err}); save it again as UTF-8") from err
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
        ConfigError: a key is unknown, or a value is of another type; `where` names the file.
    """
    return _typed(Competition, {**values, "slug": slug}, where)


def _typed(kind: type[T], values: dict[str, Any], where: str) -> T:
    """A dataclass of this kind, each value checked against its annotation."""
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known keys: {', '.join(hints)}")
    checked = {name: _checked(value, hints[name], name, where) for name, value in values.items()}
    try:
        return kind(**checked)
    except ConfigError as err:
        raise ConfigError(f"{where}: {err}") from err


def _checked(value: Any, hint: Any, key: str, where: str) -> Any:
    """The value as the annotation `hint` wants it."""
    if is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, dict):
            return _typed(hint, value, f"{where} [{key}]")
        raise _wrong_type(value, f"a table, [{key}]", key, where)
    if hint == tuple[str, ...] and isinstance(value, list | tuple):
        wrong = next((name for name in value if type(name) is not str), None)
        if wrong is not None:
            raise _wrong_type(wrong, _CALLED[str], f"{key}[{value.index(wrong)}]", where)
        return tuple(value)
    kinds = get_args(hint) if hint not in _CALLED else (hint,)
    if type(value) not in kinds:  # not isinstance: true is no number
        expected = next(_CALLED[kind] for kind in kinds if kind in _CALLED)
        raise _wrong_type(value, expected, key, where)
    return value


def _wrong_type(value: Any, expected: str, key: str, where: str) -> ConfigError:
    return ConfigError(
        f"{where}: {key} = {value!r} ({type(value).__name__}); {expected} is expected"
    )
