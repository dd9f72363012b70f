"""What may not be read is named in one line; no image counts as damaged for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.competition import Competition
from pipeline.data.cache import build_cache
from pipeline.data.layouts import read_layout
from tests.permissions import ordinary_user
from tests.stages.commands import REPOSITORY, write_digit_images

_DO_WHAT_IS_SAID = """
import json, sys
from pathlib import Path
from pipeline.competition import Competition, load_competition
from pipeline.data.archives import extract_archive, unpack_archives
from pipeline.data.cache import build_cache, load_cache
from pipeline.data.fingerprint import file_hashes
from pipeline.data.layouts import read_layout
from pipeline.data.submission import check_submission, read_form
from pipeline.errors import PipelineError
pets = Competition(slug="pets")
for line in sys.stdin:
    folder, statement = json.loads(line)
    root = Path(folder)
    raw = root / "raw"
    try:
        exec(statement)
        print("nothing was refused", flush=True)
    except PipelineError as err:
        print(f"{type(err).__name__}: {err}", flush=True)
"""
READ = "read_layout(raw, pets)"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A competition's raw files, other files beside them, and a cache."""
    root = tmp_path_factory.mktemp("origin")
    write_digit_images(root / "raw", 20, 4)
    build = read_layout(root / "raw", Competition(slug="pets"))
    (root / "cache").mkdir()
    build_cache(build, root / "cache")
    (root / "competition.toml").write_text("")
    with zipfile.ZipFile(root / "files.zip", "w") as archive:
        archive.writestr("train.csv", "id,label")
    return root


@pytest.fixture(scope="module")
def reader() -> Iterator[Callable[[Path, str], str]]:
    """Does a statement in a folder as an ordinary user would, and tells what came of it."""
    program = [*ordinary_user(), sys.executable, "-c", _DO_WHAT_IS_SAID]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True) as process:
        asked, told = process.stdin, process.stdout
        assert asked is not None
        assert told is not None

        def do(root: Path, statement: str) -> str:
            print(json.dumps([str(root), statement]), file=asked, flush=True)
            return told.readline()

        yield do


@pytest.mark.parametrize(
    ("refused", "statement"),
    [
        ("raw", READ),
        ("raw/train", READ),
        ("raw/train.csv", READ),
        ("raw/sample_submission.csv", READ),
        ("raw/sample_submission.csv", "read_form(raw, pets, ('0', '1'), ['0020'])"),
        ("raw/train", "file_hashes(raw)"),
        ("raw/train/0007.png", "file_hashes(raw)"),
        (
            "raw/train/0007.png",
            "(root / 'new').mkdir(); build_cache(read_layout(raw, pets), root / 'new')",
        ),
        ("cache/train.safetensors", "load_cache(root / 'cache')"),
        ("competition.toml", "load_competition('pets', root)"),
        ("files.zip", "extract_archive(root / 'files.zip', root / 'out')"),
        ("raw", "unpack_archives(raw)"),
    ],
)
def test_what_may_not_be_read(
    reader: Callable[[Path, str], str], origin: Path, tmp_path: Path, refused: str, statement: str
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(origin, root)
    path = root / refused
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        told = reader(root, statement)
    finally:
        path.chmod(mode)
    assert told == (
        f"StorageError: cannot read {path}: Permission denied; let yourself read it and every "
        "folder above it (chmod u+rX) and rerun\n"
    )
    assert not list(root.glob("new/*.safetensors"))
    assert not (root / "out").exists()
