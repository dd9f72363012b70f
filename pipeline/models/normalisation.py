"""The normalisation that weights were trained with: channel means and deviations, 0 to 255."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from pipeline.errors import DataError

# One key, since safetensors writes several in an order that changes from run to run.
_METADATA = "normalisation"
_WHITE = 255
# Of a person's numbers, less was meant for colours from 0 to 1; measured ones may be smaller.
_LEAST_GIVEN, _LEAST_MEASURED = 1, 1e-6


class Normalisation(NamedTuple):
    """Mean and standard deviation per channel, in pixel values 0 to 255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def metadata(self) -> dict[str, str]:
        """As a safetensors file's metadata holds it."""
        return {_METADATA: json.dumps(self._asdict())}

    def for_channels(self, channels: int) -> Normalisation:
        """The same for images of so many channels; where they differ, the channels' mean."""
        if len(self.mean) == channels:
            return self
        return Normalisation((fmean(self.mean),) * channels, (fmean(self.std),) * channels)


def stored_normalisation(path: Path) -> Normalisation | None:
    """What a weights file says of itself; None: nothing.

    In its metadata, or in the buffers that the weights of a run's fold have.

    Raises:
        DataError: the file is damaged, or the values cannot be a normalisation.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA)
            if text is not None:
                return _checked(text, path, _LEAST_GIVEN)
            if not {"mean", "scale"} <= set(file.keys()):
                return None
            mean, scale = file.get_tensor("mean"), file.get_tensor("scale")
    except (OSError, SafetensorError) as err:
        reason = " ".join(str(err).split())
        raise DataError(f"{path} is no safetensors file ({reason}); make it again") from err
    text = json.dumps({"mean": mean.tolist(), "std": (1 / scale).tolist()})
    return _checked(text, path, _LEAST_MEASURED)


def _checked(text: str, path: Path, least: float) -> Normalisation:
    """The normalisation in the text, whose deviations are `least` or more."""
    try:
        values = json.loads(text)
        found = Normalisation(_numbers(values["mean"]), _numbers(values["std"]))
    except (ValueError, KeyError, TypeError) as err:
        raise _wrong(path, text, f"{type(err).__name__}: {err}") from err
    if len(found.mean) != len(found.std) or not found.mean:
        raise _wrong(path, text, f"{len(found.mean)} means and {len(found.std)} deviations")
    if not all(0 <= value <= _WHITE for value in found.mean):
        raise _wrong(path, text, "a mean is outside 0 to 255")
    if not all(least <= value <= _WHITE for value in found.std):
        raise _wrong(path, text, f"a deviation is outside {least:g} to {_WHITE}")
    return found


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("not all are finite numbers")
    return numbers


def _wrong(path: Path, text: str, reason: str) -> DataError:
    return DataError(
        f"{path}: normalisation {text} cannot be used ({reason}); write "
        '{"mean": [...], "std": [...]} into its metadata, per channel, in pixel values 0 to 255'
    )
