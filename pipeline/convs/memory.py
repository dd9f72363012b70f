"""Remember timings: in the process, and per device in the user's cache folder."""

from __future__ import annotations

import json
import logging
import re
from contextlib import suppress
from pathlib import Path

import torch

from pipeline.artifacts import user_cache_folder, write_json
from pipeline.errors import StorageError
from pipeline.native import processor_name

Timings = dict[str, float]
_DAMAGE = (OSError, ValueError, TypeError, AttributeError)
_LOG = logging.getLogger(__name__)
_known: dict[Path, dict[str, Timings]] = {}


def recall(device: torch.device, case: str) -> Timings | None:
    """Milliseconds per execution of an earlier `remember` of the case, here or in a process
    before."""
    return _load(_file(device)).get(case)


def remember(device: torch.device, case: str, timings: Timings) -> None:
    """Keep the timings, beside those that other processes have kept by now.

    Where the cache folder cannot be written, they are kept in this process only.
    """
    path = _file(device)
    known = _known[path] = {**_load(path), case: timings}
    others: dict[str, Timings] = {}
    with suppress(*_DAMAGE):
        others = _parsed(path)
    try:
        write_json(path, {**others, **known})
    except (StorageError, OSError) as err:
        _LOG.warning("timings are not kept for later runs: %s", err)


def _load(path: Path) -> dict[str, Timings]:
    if path not in _known:
        _known[path] = _read(path) if path.exists() else {}
    return _known[path]


def _read(path: Path) -> dict[str, Timings]:
    try:
        return _parsed(path)
    except _DAMAGE as err:
        _LOG.warning("%s is damaged (%s); ignored, executions are timed anew", path, err)
        return {}


def _parsed(path: Path) -> dict[str, Timings]:
    cases = json.loads(path.read_text())
    return {
        case: {name: float(ms) for name, ms in timings.items()} for case, timings in cases.items()
    }


def _file(device: torch.device) -> Path:
    """Speeds differ by device, library version and number of threads; machines share a home."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        capability = torch.backends.cpu.get_cpu_capability()
        name = f"{device.type} {processor_name()} {capability} {torch.get_num_threads()} threads"
    slug = re.sub(r"[^\w.]+", "-", f"{name} torch {torch.__version__}").lower()
    return user_cache_folder() / "executions" / f"{slug}.json"
