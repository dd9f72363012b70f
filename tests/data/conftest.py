"""What the tests of data share: a small raw folder, and a disk that is really full."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.raw_files import put, put_images


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted tmpfs of 1 MiB; skips where mounting is not permitted."""
    folder = tmp_path / "tiny-disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if mounted.returncode:
        pytest.skip(f"a tmpfs may not be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def table(tmp_path):
    """A label table with ids that look like numbers, and a BOM."""
    put_images(tmp_path, ["train/0001.png", "train/0002.png", "train/1e3.png"])
    put_images(tmp_path, ["test/0007.png", "test/0010.png"])
    put(tmp_path, "train.csv", "\ufeffid,label\n1e3,cat\n0001,dog\n0002,cat\n")
    put(tmp_path, "sample_submission.csv", "\ufeffid,label\n0010,cat\n0007,cat\n")
    return tmp_path
