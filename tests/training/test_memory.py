"""The peak of a process is its own."""

import subprocess
import sys

import numpy as np

from pipeline.training.memory import peak_resident_memory
from tests.stages.commands import REPOSITORY

HELD = 300 * 2**20
_TELL = "from pipeline.training.memory import peak_resident_memory; print(peak_resident_memory())"


def test_the_peak_is_of_this_process_and_stays() -> None:
    before = peak_resident_memory()
    held = np.ones(HELD, dtype=np.uint8)
    held[:] = 2
    del held
    assert peak_resident_memory() >= max(before, HELD)


def test_a_process_started_from_a_large_one_counts_its_own_memory_alone() -> None:
    large = np.ones(2 * 2**30, dtype=np.uint8)
    started = subprocess.run(
        [sys.executable, "-c", _TELL], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    del large
    assert 0 < int(started.stdout) < 2**30
