"""Fold maps are shared by runs of the same images, groups and copies, and by no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.competition import Competition
from pipeline.data.cache import Part
from pipeline.stages.fold_map import planned_fold_map, shared_fold_map
from pipeline.stages.settings import Settings
from pipeline.training.folds import read_folds

MINE = Competition(slug="mine")
PART = Part(
    images=torch.zeros(24, 1, 1, 1, dtype=torch.uint8),
    ids=[f"i{row}" for row in range(24)],
    labels=torch.arange(24) % 2,
)
GROUPS = [f"patient{row // 4}" for row in range(24)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(competition="mine", folds=3, root=tmp_path)


def test_what_decides_a_map_names_it(settings: Settings) -> None:
    own = planned_fold_map(settings, MINE, PART)
    others = [
        planned_fold_map(settings, MINE, replace(PART, groups=GROUPS)),
        planned_fold_map(settings, MINE, replace(PART, labels=PART.known_labels().roll(1))),
        planned_fold_map(settings, MINE, replace(PART, ids=PART.ids[::-1])),
        planned_fold_map(replace(settings, folds=4), MINE, PART),
        planned_fold_map(replace(settings, fold_seed=1), MINE, PART),
    ]
    same = planned_fold_map(replace(settings, seed=1, conv="separable"), MINE, PART)

    assert len({own.path, *(other.path for other in others)}) == 6
    assert own.content not in [other.content for other in others[-2:]]
    assert (same.path, same.sha256) == (own.path, own.sha256)


def test_a_fold_holds_whole_groups_and_the_copies_of_their_images(settings: Settings) -> None:
    listed = settings.workspace.duplicates("mine")
    listed.parent.mkdir(parents=True)
    listed.write_text("id,group\ni3,copies\ni23,copies\n")

    path = shared_fold_map(settings, MINE, replace(PART, groups=GROUPS))

    fold = read_folds(path, PART.ids).reshape(6, 4)
    assert (fold == fold[:, :1]).all()
    assert fold[0, 3] == fold[5, 3]
