"""The weights that a run starts from, as the settings choose them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import sha256_of
from pipeline.errors import ConfigError
from pipeline.models.pretrained import SUFFIX, find_weights
from pipeline.stages.settings import Settings


@dataclass(frozen=True, slots=True)
class StartingWeights:
    """A safetensors file and its SHA-256."""

    path: Path
    sha256: str


def starting_weights(settings: Settings) -> StartingWeights | None:
    """The weights that the settings choose; None: every fold starts from freshly drawn ones.

    Raises:
        ConfigError: the file that they name is none.
        DataError: there is more than one file to choose from.
    """
    if settings.weights == "none":
        return None
    if settings.weights != "auto":
        return _hashed(named_weights(settings.weights))
    found = find_weights(settings.model, [settings.workspace.weights])
    return _hashed(found) if found else None


def named_weights(name: str) -> Path:
    """The file that a user names.

    Raises:
        ConfigError: there is none, or it is of another kind.
    """
    path = Path(name)
    if path.suffix != SUFFIX or not path.is_file():
        raise ConfigError(f"WEIGHTS={name!r} is no {SUFFIX} file; give one, or auto, or none")
    return path


def _hashed(path: Path) -> StartingWeights:
    return StartingWeights(path.absolute(), sha256_of(path))
