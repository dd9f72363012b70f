"""What a fold needs to go on after a kill: saved after every epoch, whole or not at all."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from pipeline.artifacts import write_whole
from pipeline.errors import DataError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values to `path`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint onto `device`; nothing but tensors and plain values is ever built.

    Raises:
        DataError: the file is damaged or holds something else.
    """
    try:
        _compare_checksums(path)
        state = torch.load(path, map_location=device, weights_only=True)
    except OSError:
        raise
    except Exception as err:  # an unpickler raises what it likes on damaged bytes
        raise DataError(
            f"{path} is not a checkpoint ({type(err).__name__}); delete it and rerun: the fold "
            "starts again"
        ) from err
    if not isinstance(state, dict):
        raise DataError(
            f"{path} is not a checkpoint ({type(state).__name__}); delete it and rerun: the fold "
            "starts again"
        )
    return state


def _compare_checksums(path: Path) -> None:
    """Torch writes one for every tensor, and does not look at them when it reads.

    Raises:
        zipfile.BadZipFile: a tensor was changed, or the file is no archive.
    """
    with zipfile.ZipFile(path) as tensors:
        changed = tensors.testzip()
    if changed is not None:
        raise zipfile.BadZipFile(changed)
