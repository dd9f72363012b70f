"""No test sees the user's credentials, home or host state, and none leaves anything behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.host.state import STATE_VARIABLE


@pytest.fixture(scope="session", autouse=True)
def isolated_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A scratch home and host state for the whole session, and no Kaggle variables."""
    before = dict(os.environ)
    for name in [n for n in os.environ if n.startswith("KAGGLE_") or n == "VERBOSE"]:
        del os.environ[name]
    # Tests run beside each other: threads that wait for a core by spinning would starve them.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    os.environ["XDG_CACHE_HOME"] = str(Path(os.environ["HOME"]) / ".cache")
    os.environ["XDG_CONFIG_HOME"] = str(Path(os.environ["HOME"]) / ".config")
    os.environ[STATE_VARIABLE] = str(tmp_path_factory.mktemp("host-state"))
    yield
    os.environ.clear()
    os.environ.update(before)
