"""A cache far larger than the memory trains, and about as fast as one that fits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pipeline.data import row_file
from pipeline.data.cache import _text_tensors
from tests.stages.commands import REPOSITORY

LIMIT = 2 * 2**30
SIDE, CHANNELS = 64, 3
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")


def sparse_cache(folder: Path, images: int) -> Path:
    """A cache of that many images: the first thousand show something, the rest is holes."""
    folder.mkdir()
    description = json.dumps({"version": 2, "classes": ["cat", "dog"]})
    noise = torch.randint(0, 256, (1000, SIDE, SIDE, CHANNELS), dtype=torch.uint8).numpy()
    for name, count in (("train", images), ("test", 10)):
        tensors = {
            "images": torch.empty((count, SIDE, SIDE, CHANNELS), dtype=torch.uint8, device="meta"),
            "labels": torch.arange(count) % 2,
            **_text_tensors("ids", [str(row) for row in range(count)]),
        }
        path = folder / f"{name}.safetensors"
        with row_file.row_file(path, tensors, {"tensor_cache": description}) as file:
            for row in range(min(count, len(noise))):
                file.write(row, noise[row])
    return folder


@pytest.fixture
def limited() -> Iterator[Callable[[Path, float], dict[str, float]]]:
    """Trains on a cache for some seconds in a process that may hold no more than the limit."""
    group = MEMORY_GROUPS / f"pipeline-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as err:
        pytest.skip(f"no memory limit can be set here: {err}")
    (group / "memory.limit_in_bytes").write_text(str(LIMIT))

    def train(cache: Path, seconds: float) -> dict[str, float]:
        # What other programs have read fills the limit first, as it would on a busy machine.
        fill = f"head -c {LIMIT} {cache}/train.safetensors > /dev/null"
        enter = f'echo $$ > {group}/tasks && {fill} && exec "$@"'
        program = [sys.executable, "-m", "tests.training.limited_training", str(cache)]
        result = subprocess.run(
            ["sh", "-c", enter, "sh", *program, str(seconds)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        reclaimed = int((group / "memory.failcnt").read_text())
        return {**json.loads(result.stdout), "limit_reached": reclaimed}

    yield train
    group.rmdir()


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder that does not lie in memory, as those under /tmp do on many machines."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("gigabytes", "seconds", "compared"),
    [
        pytest.param(3, 1.0, False, id="3"),
        pytest.param(50, 40.0, True, marks=pytest.mark.soak, id="50"),
    ],
)
def test_a_cache_beyond_the_memory_limit_trains(
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    limited: Callable[[Path, float], dict[str, float]],
    record_property: Callable[[str, object], None],
    gigabytes: int,
    seconds: float,
    compared: bool,
) -> None:
    monkeypatch.setattr(row_file, "_reserve", os.truncate)  # holes take no space on the disk
    image = SIDE * SIDE * CHANNELS
    large = sparse_cache(disk / "large", gigabytes * 10**9 // image)

    beyond = limited(large, seconds)

    assert beyond["cache_bytes"] > LIMIT
    assert beyond["limit_reached"] > 0
    record_property("images/s, beyond memory", round(beyond["images_per_second"]))
    if compared:
        within = limited(sparse_cache(disk / "small", 20_000), seconds)
        record_property("images/s, within", round(within["images_per_second"]))
    record_property("times that the limit was reached", beyond["limit_reached"])
