"""A fold map of very many images is made, written and read back in little memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
COUNTS = [100_000, pytest.param(10_000_000, marks=pytest.mark.soak)]

_MAKE_FOLDS = """
import json, sys, time
from pathlib import Path
import numpy as np
from pipeline.training.folds import assign_folds, read_folds, write_folds
from pipeline.training.memory import peak_resident_memory

count, path = int(sys.argv[1]), Path(sys.argv[2])
ids = [f"image{row:08}" for row in range(count)]
labels = np.random.default_rng(0).integers(0, 10, count)
moments = [(time.monotonic(), time.process_time())]
fold = assign_folds(labels, None, 5, seed=0)
write_folds(path, ids, fold)
assert np.array_equal(read_folds(path, ids), fold)
moments.append((time.monotonic(), time.process_time()))
counts = np.bincount(10 * fold + labels).reshape(5, 10)
assert (np.ptp(counts, axis=0) <= 1).all()
(begin, begin_busy), (end, end_busy) = moments
result = {
    "GiB": peak_resident_memory() / 2**30,
    "seconds of folds": end - begin,
    "processor seconds": end_busy - begin_busy,
}
print(json.dumps(result))
"""


@pytest.mark.parametrize("count", COUNTS)
def test_folds_of_many_images_fit_into_four_gigabytes(count, tmp_path, record_property):
    made = subprocess.run(
        [sys.executable, "-c", _MAKE_FOLDS, str(count), str(tmp_path / "folds.csv")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )

    figures = json.loads(made.stdout)
    print(figures)
    record_property("images", count)
    for name, value in figures.items():
        record_property(name, value)
    assert figures["GiB"] < 4
