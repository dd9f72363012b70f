"""Several sizes of a competition's images live side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.competition import Competition, DataSpec, SubmissionSpec
from pipeline.data.cache import CACHE_VERSION, load_cache
from pipeline.data.fingerprint import raw_fingerprint
from pipeline.errors import ConfigError
from pipeline.stages.chain import run_until
from pipeline.stages.preprocess import planned_cache, preprocess, resolve
from pipeline.stages.settings import Settings, check_settings
from pipeline.workspace import Workspace
from tests.stages.commands import write_digit_images


def test_every_size_and_resize_has_a_cache_of_its_own(tmp_path: Path) -> None:
    write_digit_images(tmp_path / "data/mine/raw")
    plain = Competition(slug="mine")
    ways = [
        plain,
        plain.with_size(16),
        replace(plain, data=DataSpec(size=16, resize="pad")),
        replace(plain, data=DataSpec(size=16, resize="stretch")),
    ]

    folders = [preprocess(Workspace(root=tmp_path), way) for way in ways]

    assert len(set(folders)) == 4
    sides = [load_cache(folder).train.images.shape[1] for folder in folders]
    assert sides == [8, 16, 16, 16]
    cropped = replace(plain, data=DataSpec(resize="crop"))
    assert preprocess(Workspace(root=tmp_path), cropped) == folders[0]


def test_what_decides_the_tensors_decides_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "data/mine/raw"
    write_digit_images(raw)
    raw_fingerprint(raw)
    plain = Competition(slug="mine")
    ways = [
        plain,
        replace(plain, classes=("0", "1")),
        replace(plain, classes=("1", "0")),
        replace(plain, multi_label=False),
        replace(plain, data=DataSpec(label_column="label")),
        replace(plain, submission=SubmissionSpec(id="id")),
        replace(plain, submission=SubmissionSpec(sample="sample.csv")),
    ]

    def keys() -> list[Path | None]:
        return [planned_cache(Workspace(root=tmp_path), way) for way in ways]

    before = keys()
    monkeypatch.setattr("pipeline.stages.preprocess.CACHE_VERSION", CACHE_VERSION + 1)
    of_another_version = keys()
    (raw / "new.csv").write_text("id\n")
    raw_fingerprint(raw)

    assert len({*before, *of_another_version, *keys()}) == 3 * len(ways)
    ways = [replace(plain, title="Mine", metric="macro_f1"), plain]
    assert len({*keys()}) == 1


def test_size_is_a_setting(tmp_path: Path) -> None:
    write_digit_images(tmp_path / "data/mine/raw")
    settings = Settings(competition="mine", size=24, root=tmp_path, host="local")

    run_until("preprocess", settings)

    (cache,) = settings.workspace.caches("mine").iterdir()
    assert load_cache(cache).test.images.shape == (20, 24, 24, 1)
    for wrong in (7, 1025, -1):
        with pytest.raises(ConfigError, match=f"size={wrong}: choose 8 to 1024"):
            check_settings(replace(settings, size=wrong))


def test_what_the_sample_cannot_hold_fails_ahead_of_training_though_the_tensors_are_there(
    tmp_path: Path,
) -> None:
    """The metric and the submission's values may be changed at any time; no tensor is."""
    write_digit_images(tmp_path / "data/mine/raw", train=20, test=2)
    workspace, plain = Workspace(root=tmp_path), Competition(slug="mine")
    cache = preprocess(workspace, plain)

    for changed in (
        replace(plain, metric="log_loss"),
        replace(plain, submission=SubmissionSpec(values="probabilities")),
    ):
        assert preprocess(workspace, changed) == cache
        with pytest.raises(ConfigError, match=r"sample_submission\.csv: "):
            resolve(workspace, changed, cache)
    assert resolve(workspace, plain, cache).metric == "accuracy"
