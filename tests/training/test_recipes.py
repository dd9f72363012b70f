"""Recipes that were saved as files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.training.recipes import make_recipe


def test_a_saved_recipe_is_the_recipe_and_takes_changes(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    path.write_text(json.dumps(asdict(make_recipe("quick"))))
    assert make_recipe(str(path)) == make_recipe("quick")
    assert make_recipe(str(path), {"epochs": "3"}).epochs == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"epochs": 2, "batch": 3, "cutmix": 1}', "2 unknown fields, first 'batch'; choose from"),
        ('{"epochs": "many", "batch_size": 64}', "epochs='many' is not a whole number"),
        ('{"epochs": 2.5, "batch_size": 64}', "epochs='2.5' is not a whole number"),
        ('{"epochs": 2}', "no saved recipe: .*batch_size"),
        ('{"epochs": 0, "batch_size": 64}', "epochs=0: at least 1"),
        ("{", "is no saved recipe"),
        ("7", "is no saved recipe"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        make_recipe(str(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        make_recipe(str(tmp_path / "gone.json"))
    with pytest.raises(ConfigError, match="choose from finetune, published, quick"):
        make_recipe("fast")


@pytest.mark.parametrize("layer_decay", ["0", "-0.5", "1.1", "nan"])
def test_what_is_no_factor_from_layer_to_layer_is_refused(layer_decay):
    with pytest.raises(ConfigError, match=r"layer_decay=.*: choose a factor above 0, such as 0.8"):
        make_recipe("finetune", {"layer_decay": layer_decay})


@pytest.mark.parametrize("clip", ["-1", "inf", "nan"])
def test_what_is_no_norm_to_clip_at_is_refused(clip):
    with pytest.raises(ConfigError, match=r"clip=.*: choose a norm above 0"):
        make_recipe("smoke", {"clip": clip})
