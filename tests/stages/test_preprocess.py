"""Several sizes of a competition's images live side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.competition import Competition, DataSpec
from pipeline.data.cache import load_cache
from pipeline.errors import ConfigError
from pipeline.stages.chain import run_until
from pipeline.stages.preprocess import preprocess
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


def test_size_is_a_setting(tmp_path: Path) -> None:
    write_digit_images(tmp_path / "data/mine/raw")
    settings = Settings(competition="mine", size=24, root=tmp_path, host="local")

    run_until("preprocess", settings)

    (cache,) = settings.workspace.caches("mine").iterdir()
    assert load_cache(cache).test.images.shape == (20, 24, 24, 1)
    for wrong in (7, 1025, -1):
        with pytest.raises(ConfigError, match=f"size={wrong}: choose 8 to 1024"):
            check_settings(replace(settings, size=wrong))
