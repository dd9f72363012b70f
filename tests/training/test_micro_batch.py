"""The images of a batch that pass through the network at once."""

from dataclasses import replace

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.training import group
from pipeline.training.recipes import Recipe
from pipeline.training.start import start_training
from pipeline.training.step import gradients
from tests.training.runs import FP32, NETWORK


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_batch(fold_data, capsys):
    torch.manual_seed(0)
    model = NETWORK.build(torch.full((1,), 80.0), torch.full((1,), 90.0))
    recipe = Recipe(epochs=1, batch_size=32)
    state = start_training(model, fold_data, recipe, FP32)
    whole, sizes = state.loss, []

    def loss(images, labels):
        sizes.append(len(images))
        if len(images) > 8:
            raise torch.OutOfMemoryError("made by the test")
        return whole(images, labels)

    state.loss = loss
    value = gradients(state, fold_data.images[:32], fold_data.labels[:32])

    assert sizes == [32, 16, 8, 8, 8, 8]
    assert (state.batch, state.micro_batch) == (32, 8)
    assert torch.isfinite(value)
    assert all(p.grad is not None for p in model.parameters())
    assert "8 images at once from here on, still 32 a step" in capsys.readouterr().err


def test_images_at_once_can_be_chosen(fold_data):
    model = NETWORK.build(torch.zeros(1), torch.ones(1))

    state = start_training(
        model, fold_data, Recipe(epochs=1, batch_size=32), replace(FP32, micro_batch=8)
    )

    assert (state.batch, state.micro_batch) == (32, 8)


def test_a_batch_that_is_no_multiple_of_the_images_at_once_leaves_no_single_image(fold_data):
    """Batch norm has no statistics of one image where it sees single pixels."""
    model = NETWORK.build(torch.zeros(1), torch.ones(1))
    recipe, sizes = Recipe(epochs=1, batch_size=32), []
    state = start_training(model, fold_data, recipe, replace(FP32, micro_batch=31))
    whole = state.loss
    state.loss = lambda images, labels: sizes.append(len(images)) or whole(images, labels)

    gradients(state, fold_data.images[:32], fold_data.labels[:32])

    assert sizes == [16, 16]


def test_one_image_too_many_for_the_memory_is_told(fold_data):
    model = NETWORK.build(torch.zeros(1), torch.ones(1))
    state = start_training(model, fold_data, Recipe(epochs=1, batch_size=32), FP32)

    def loss(images, labels):
        raise torch.OutOfMemoryError("made by the test")

    state.loss = loss
    with pytest.raises(ConfigError, match="out of memory with 2 images of 8x8x1 at once"):
        gradients(state, fold_data.images[:32], fold_data.labels[:32])


def test_a_share_of_a_batch_too_many_for_the_memory_is_told(fold_data, monkeypatch):
    """Processes that train a fold together do not halve: all would have to."""
    model = NETWORK.build(torch.zeros(1), torch.ones(1))
    state = start_training(model, fold_data, Recipe(epochs=1, batch_size=32), FP32)

    def loss(images, labels):
        raise torch.OutOfMemoryError("made by the test")

    state.loss = loss
    monkeypatch.setattr(group, "size", lambda: 2)
    with pytest.raises(ConfigError, match="out of memory with 16 images of 8x8x1 at once"):
        gradients(state, fold_data.images[:16], fold_data.labels[:16])
