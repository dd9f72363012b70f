"""Every field of a recipe reaches training."""

from dataclasses import replace

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from pipeline.training.batches import FoldData
from pipeline.training.deadline import Deadline
from pipeline.training.loop import train_fold
from pipeline.training.recipes import Recipe, recipe_fields
from pipeline.training.start import start_training
from tests.training.runs import FP32, NETWORK

BASE = Recipe(epochs=2, batch_size=16, dropout=0.0, small_epochs=0.5, small_side=0.8)
OTHER = {
    "epochs": 3,
    "batch_size": 8,
    "optimizer": "adam",
    "learning_rate": 0.1,
    "momentum": 0.5,
    "weight_decay": 0.5,
    "schedule": "cosine",
    "warmup": 0.5,
    "label_smoothing": 0.3,
    "dropout": 0.5,
    "max_shift": 0.0,
    "mixup": 0.5,
    "class_weights": 1.0,
    "balanced_sampling": 1.0,
    "logit_adjustment": 1.0,
    "small_epochs": 0.0,
    "small_side": 1.0,
    "frozen": 0.5,
    "layer_decay": 0.5,
    "clip": 0.01,
    "ema": 0.5,
}


def trained_by(recipe, digits):
    """All weights behind four steps or so on 40 digits of 20 x 20 pixels, and the last rate."""
    images = digits.train.images[:50].repeat_interleave(3, 1).repeat_interleave(3, 2)[:, 2:22, 2:22]
    rows = torch.arange(50)
    data = FoldData(
        images=images,
        labels=digits.train.labels,
        train=rows[:40],
        valid=rows[40:],
        classes=10,
        mirror=False,
    )
    torch.manual_seed(0)
    network = replace(NETWORK, dropout=recipe.dropout)
    state = start_training(
        network.build(torch.full((1,), 80.0), torch.full((1,), 90.0)), data, recipe, FP32
    )
    train_fold(state, data, recipe, FP32, 0, lambda _: None, Deadline())
    weights = parameters_to_vector(state.trained().parameters()).detach()
    return weights, state.schedule.get_last_lr()


@pytest.fixture(scope="module")
def by_base(digits):
    return trained_by(BASE, digits)


def test_the_rate_ends_at_zero_behind_the_last_step(by_base):
    assert by_base[1] == [0.0] * len(by_base[1])


@pytest.mark.parametrize("name", recipe_fields())
def test_every_field_of_a_recipe_changes_what_is_trained(digits, by_base, name):
    """But for the epoch that is kept, which may be the same."""
    changes = {} if name == "keep" else {name: OTHER[name]}

    weights, _ = trained_by(replace(BASE, **changes), digits)

    assert torch.equal(weights, by_base[0]) == (not changes)
