"""Accelerated optimisation: its rows as recipes, and the size of its residual network."""

import pytest

from pipeline.profiling.summary import summarise
from pipeline.studies.nntrain import authors_macs
from pipeline.studies.nntrain_rows import AUGMENTED, REGULARISED, RESNET, ROWS, TWINS
from tests.studies.measuring import (
    assert_explained_and_drawn,
    assert_met_exactly,
    assert_published_figures_are_measured,
    figures,
    measured,
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("nntrain"), "nntrain")


def test_the_eight_published_rows_are_there_with_torchs_rules_and_a_regularised_net_beside_them():
    published = [name for name, row in ROWS.items() if row.published]
    own = [name for name in published if ROWS[name].training.optimizer.startswith("nntrain-")]

    assert len(published) == 8
    assert len(own) == 4
    assert set(TWINS) | {"cnn-rmsprop"} == set(own)
    assert {*TWINS.values(), REGULARISED} == ROWS.keys() - set(published)


def test_a_recipe_has_nothing_that_the_study_does_not_have():
    for name in ROWS.keys() - {REGULARISED}:
        row = ROWS[name]
        recipe = row.recipe(5)
        assert recipe.batch_for(60_000) == 1024
        assert (recipe.weight_decay, recipe.label_smoothing, recipe.dropout) == (0, 0, 0)
        assert recipe.shift_for(28) == (1 if row.augmented else 0)
        assert recipe.schedule == ("one-cycle" if row.one_cycle else "constant")


def test_flips_and_crops_come_with_as_many_epochs_as_published():
    augmented = {name: row.training.epochs for name, row in ROWS.items() if row.augmented}
    assert augmented == {AUGMENTED: 20, REGULARISED: 20}


def test_the_size_is_the_published_one_block_by_block(results):
    assert_met_exactly("nntrain", results)

    found = figures(results, "summary", RESNET)
    blocks = [found[f"block{number}_mmacs"] for number in range(1, 7)]
    assert blocks == [0.51, 1.46, 1.46, 1.59, 1.90, 1.90]
    assert found["mmacs"] == 8.82


def test_the_authors_formula_leaves_out_the_shortcut_of_a_block_without_a_stride():
    layers = [
        layer
        for layer in summarise(RESNET, "subkernel").layers
        if layer.name.startswith("blocks.0.")
    ]

    assert authors_macs(layers) == 9 * 28 * 28 * 8 + 9 * 8 * 28 * 28 * 8
    assert sum(layer.macs for layer in layers) - authors_macs(layers) == 28 * 28 * 8


def test_every_row_trains_and_is_evaluated(results):
    for name, row in ROWS.items():
        found = figures(results, "training", name)
        assert 0 < found["eval_accuracy"] <= 1, name
        assert 0 < found["train_accuracy"] <= 1, name
        assert found["parameters"] == (1_227_900 if row.model == RESNET else found["parameters"])


def test_words_plots_and_published_figures(results):
    assert_explained_and_drawn("nntrain", results, {"accuracy.png"})
    assert_published_figures_are_measured("nntrain", results)
