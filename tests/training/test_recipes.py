"""Recipes that were saved as files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.training.recipes import Recipe, make_recipe, recipe_names


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
        ("7", "is no saved recipe: it holds no object with values by field"),
        ("[]", "is no saved recipe: it holds no object with values by field"),
        ('["epochs"]', "is no saved recipe: it holds no object with values by field"),
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


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("batch_size", "1", "batch norm needs at least 2 images"),
        ("learning_rate", "-1", "choose a finite number from 0 on"),
        ("learning_rate", "inf", "choose a finite number from 0 on"),
        ("momentum", "-1", "choose a fraction from 0 to below 1"),
        ("momentum", "1", "choose a fraction from 0 to below 1"),
        ("warmup", "-0.1", "choose a fraction from 0 to below 1"),
        ("warmup", "1", "choose a fraction from 0 to below 1"),
        ("label_smoothing", "2", "choose a fraction from 0 to 1"),
        ("dropout", "2", "choose a fraction from 0 to 1"),
        ("max_shift", "1.5", "choose a fraction from 0 to 1"),
        ("mixup", "-1", "choose a fraction from 0 to 1"),
        ("small_epochs", "-0.1", "choose a fraction from 0 to 1"),
        ("small_side", "1.1", "choose a fraction from 0 to 1"),
        ("balanced_sampling", "400", "choose a power from 0 to 10"),
        ("logit_adjustment", "-1", "choose a finite number from 0 on"),
    ],
)
def test_a_value_out_of_its_range_is_told_with_the_range(field, value, allowed):
    with pytest.raises(ConfigError, match=f"^{field}=.*: {allowed}"):
        make_recipe("quick", {field: value})


@pytest.mark.parametrize(
    "field",
    [name for name, value in asdict(make_recipe("quick")).items() if isinstance(value, float)],
)
def test_no_field_takes_what_is_no_number(field):
    with pytest.raises(ConfigError, match=f"^{field}=nan: choose a "):
        make_recipe("quick", {field: "nan"})


def test_the_ends_of_the_ranges_are_in_them():
    lowest = Recipe(epochs=1, batch_size=2, learning_rate=0.0, momentum=0.0, warmup=0.0)
    highest = {"label_smoothing": "1", "dropout": "1", "mixup": "1", "frozen": "1", "ema": "0.9999"}

    assert lowest.momentum == 0
    assert all(make_recipe(name, highest).dropout == 1 for name in recipe_names())
