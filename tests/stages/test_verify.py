"""verify: a flipped byte anywhere is found and named, and nothing else is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.stages.chain import run_until
from pipeline.stages.refine import blend
from pipeline.stages.settings import Settings
from pipeline.stages.verify import verify
from tests.stages.refining import Refinery


@pytest.fixture(scope="module")
def made(small_runs: Refinery, tmp_path_factory: pytest.TempPathFactory) -> Refinery:
    """Two runs, one of them uploaded, and their blend."""
    refinery = small_runs.copy(tmp_path_factory.mktemp("made") / "checkout")
    run_until("submit", refinery.with_run(refinery.runs[0]))
    blend(refinery.settings, ",".join(refinery.runs), "equal")
    return refinery


def copied(made: Refinery, root: Path) -> Settings:
    shutil.copytree(made.settings.root, root, dirs_exist_ok=True)
    return replace(made.settings, root=root)


def test_what_is_as_it_was_made_is_counted(
    made: Refinery, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    verify(made.settings)
    # Raw files, the cache, six folds, three fold maps, two sources of the blend, one upload.
    assert "14 artefacts of digits are as they were made" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("data/digits/raw/train.csv", "differ from the manifest"),
        ("data/digits/cache/*/train.safetensors", "differ from the manifest"),
        ("submissions/digits/subkernel-*/fold1/weights.safetensors", "differ from the manifest"),
        ("submissions/digits/subkernel-*/folds.csv", "is not what it was when subkernel-"),
        ("submissions/digits/*/submission.csv", "is not what it was when"),
        ("submissions/digits/subkernel-*/oof.csv", "is not what it was when subkernel-"),
    ],
)
def test_one_changed_byte_is_found(
    made: Refinery, tmp_path: Path, pattern: str, message: str
) -> None:
    settings = copied(made, tmp_path)
    path = next(tmp_path.glob(pattern))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(DataError, match=f"^1 of 14 artefacts are damaged: .*{message}"):
        verify(settings)


def test_a_missing_file_is_found(made: Refinery, tmp_path: Path) -> None:
    settings = copied(made, tmp_path)
    next(tmp_path.glob("submissions/digits/*/submission.csv")).unlink()
    with pytest.raises(DataError, match="is missing; delete"):
        verify(settings)


@pytest.mark.parametrize("manifest", ["[]", '{"images": []}'])
def test_a_manifest_of_the_competitions_own_is_none_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], manifest: str
) -> None:
    settings = Settings(competition="digits", root=tmp_path)
    settings.workspace.raw("digits").mkdir(parents=True)
    (settings.workspace.raw("digits") / "manifest.json").write_text(manifest)
    verify(settings)
    assert "0 artefacts of digits" in capsys.readouterr().out


def test_nothing_is_nothing_to_complain_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(Settings(competition="digits", root=tmp_path))
    assert "0 artefacts of digits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "problem"),
    [("{}", "is damaged ('folds')"), ("[]", "is damaged"), ('{"run"', "is not JSON")],
)
def test_a_damaged_record_is_named_and_keeps_nothing_else_from_being_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, problem: str
) -> None:
    settings = Settings(competition="mine", root=tmp_path)
    for name, text in (("a", content), ("b", '{"folds": {"count": 2, "sha256": "0"}}')):
        folder = settings.workspace.runs("mine") / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(text)

    with pytest.raises(DataError) as caught:
        verify(settings)

    first = f"{settings.workspace.runs('mine') / 'a/run.json'} {problem}"
    assert str(caught.value).startswith(f"2 of 2 artefacts are damaged: {first}")
    assert "/b/folds.csv" in capsys.readouterr().out
