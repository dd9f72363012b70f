"""No test sees the user's credentials, home or host state, and none leaves anything behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.host.state import STATE_VARIABLE
from pipeline.training.cpu import usable_threads

CORES, _ = usable_threads()
# Tests run beside each other: threads that wait for a core by spinning would starve them.
# Libraries read this when they are loaded, as they are by files of tests and by workers.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"

TESTS = Path(__file__).parent
# A long file that begins last would keep one worker busy while the others have nothing to do.
LONGEST_FIRST = (
    "notebooks/test_execution.py",
    "training/test_launch.py",
    "test_readme.py",
    "studies/test_bottleneck.py",
    "studies/test_channel_selection.py",
    "stages/test_push_real.py",
    "stages/test_chain.py",
    "stages/test_report.py",
    "stages/test_tune.py",
    "stages/test_push.py",
    "stages/test_faults.py",
    "training/test_larger_than_memory.py",
    "stages/test_upload_kills.py",
    "training/test_loop.py",
    "host/test_reruns.py",
    "stages/test_kills.py",
    "stages/test_bench.py",
    "stages/test_export.py",
    "stages/test_weights.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """As many as a container may use: one more was not faster, and takes a worker's memory."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # xdist goes by it
    return CORES


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; within a file the order stays."""
    places = {TESTS / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session", autouse=True)
def isolated_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A scratch home and host state for the whole session, and no Kaggle variables."""
    before = dict(os.environ)
    for name in [n for n in os.environ if n.startswith("KAGGLE_") or n == "VERBOSE"]:
        del os.environ[name]
    # Hundreds of processes import the package: each would have to compile it anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    torch.set_num_threads(1)
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    os.environ["XDG_CACHE_HOME"] = str(Path(os.environ["HOME"]) / ".cache")
    os.environ["XDG_CONFIG_HOME"] = str(Path(os.environ["HOME"]) / ".config")
    os.environ[STATE_VARIABLE] = str(tmp_path_factory.mktemp("host-state"))
    yield
    os.environ.clear()
    os.environ.update(before)
