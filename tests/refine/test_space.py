"""The search space fits every recipe that there is."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from optuna.trial import FixedTrial

from pipeline.refine.space import SPACE, own_values, suggest
from pipeline.training.recipes import make_recipe, recipe_fields, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipes_own_values_are_in_its_space(name: str) -> None:
    own = asdict(make_recipe(name))
    assert suggest(FixedTrial(own_values(own)), own) == {key: own[key] for key in SPACE}
    assert set(SPACE) <= set(recipe_fields())


def test_values_have_three_digits_and_a_zero_stays() -> None:
    own = asdict(replace(make_recipe("quick"), weight_decay=0.0))
    given = {**own_values(own), "learning_rate": 0.0123456, "dropout": 0.123456}
    found = suggest(FixedTrial(given), own)
    assert (found["learning_rate"], found["dropout"]) == (0.0123, 0.123)
    assert found["weight_decay"] == 0.0
    assert "weight_decay" not in own_values(own)
