"""Losses against their definitions, and networks that learn several labels or rare classes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.data.cache import TensorCache
from pipeline.errors import ConfigError
from pipeline.metrics import score
from pipeline.training.batches import FoldData, epoch_batches
from pipeline.training.deadline import Deadline
from pipeline.training.execution import Execution
from pipeline.training.fold import run_fold
from pipeline.training.losses import loss_of_labels, plain_losses
from pipeline.training.recipes import Recipe
from pipeline.training.run import Run
from pipeline.training.start import start_training
from pipeline.training.step import accumulate
from pipeline.training.tables import read_probabilities
from tests.training.runs import make_run

FREQUENCIES = torch.tensor([0.7, 0.2, 0.1])


def skewed_data(labels: Tensor | None = None) -> FoldData:
    """100 grey images of three classes, 70, 20 and 10 of them, and some that validate."""
    if labels is None:
        labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 10 + [2] * 50)
    return FoldData(
        images=torch.zeros(len(labels), 4, 4, 1, dtype=torch.uint8),
        labels=labels,
        train=torch.arange(100),
        valid=torch.arange(100, len(labels)),
        classes=3,
        mirror=False,
    )


def recipe(**changes: float) -> Recipe:
    return replace(Recipe(epochs=1, batch_size=50), **changes)  # type: ignore[arg-type]


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Logits [64, 3] and class numbers [64]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(64, 3, generator=generator), torch.randint(0, 3, (64,), generator=generator)


def test_class_weights_are_one_on_average(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    compare = loss_of_labels(recipe(class_weights=1.0, label_smoothing=0.0), skewed_data())

    each = -logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    weights = (1 / FREQUENCIES)[labels]

    assert torch.allclose(compare(logits, labels), (weights * each).sum() / weights.sum())
    targets = F.one_hot(labels, 3).float()  # as of images that are blended
    assert torch.allclose(compare(logits, targets), (weights / 3 * each).mean())


def test_logit_adjustment_shifts_by_the_log_frequency(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    compare = loss_of_labels(recipe(logit_adjustment=0.5, label_smoothing=0.1), skewed_data())

    shifted = logits + 0.5 * FREQUENCIES.log()

    assert torch.allclose(
        compare(logits, labels), F.cross_entropy(shifted, labels, label_smoothing=0.1)
    )


@pytest.mark.parametrize(("power", "shares"), [(1.0, [1 / 3] * 3), (0.5, [0.52, 0.28, 0.20])])
def test_balanced_sampling_draws_rare_classes_more_often(power: float, shares: list[float]) -> None:
    drawn = [
        labels
        for seed in range(100)
        for _, labels in epoch_batches(skewed_data(), recipe(balanced_sampling=power), 50, seed)
    ]

    counts = torch.bincount(torch.cat(drawn)).double()
    assert (counts / counts.sum()).tolist() == pytest.approx(shares, abs=0.02)


def test_several_labels_are_compared_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(150, 3, generator=generator) < 0.4
    logits = torch.randn(150, 3, generator=generator)
    compare = loss_of_labels(recipe(label_smoothing=0.0), skewed_data(labels))
    likely = logits.sigmoid()
    each = -torch.where(labels, likely, 1 - likely).log()

    losses, right = plain_losses(logits, labels)

    assert torch.allclose(compare(logits, labels), each.sum(1).mean(), atol=1e-6)
    assert torch.allclose(losses, each.sum(1), atol=1e-6)
    assert torch.allclose(right, ((likely > 0.5) == labels).float().mean(1))


def test_smoothing_moves_each_of_several_labels_towards_one_half() -> None:
    logits, labels = torch.tensor([[2.0, -1.0]]), torch.tensor([[True, False]])
    likely = logits.sigmoid()
    compare = loss_of_labels(recipe(label_smoothing=0.2), skewed_data(labels.repeat(150, 2)[:, :3]))

    expected = F.binary_cross_entropy(likely, torch.tensor([[0.9, 0.1]]), reduction="sum")
    assert torch.allclose(compare(logits, labels), expected)


def test_evening_out_is_refused_where_images_have_several_labels() -> None:
    labels = torch.rand(150, 3) < 0.4

    with pytest.raises(ConfigError, match="are for images with one label each"):
        loss_of_labels(recipe(class_weights=1.0), skewed_data(labels))


def test_a_network_learns_which_two_digits_stand_side_by_side(tmp_path, digits) -> None:
    pairs = side_by_side(digits)
    run = make_run(tmp_path, digits, epochs=12)
    record = {**run.record, "multi_label": True}
    (tmp_path / "run.json").write_text(json.dumps(record))

    run_fold(Run.open(tmp_path), pairs, 0, torch.device("cpu"), lambda _: None, Deadline())

    table = read_probabilities(tmp_path / "fold0" / "oof.csv")
    rows = [pairs.train.ids.index(name) for name in table.index]
    truth = pairs.train.known_labels()[rows].numpy()
    assert (table.to_numpy().sum(axis=1) > 1.2).any()
    assert score("roc_auc", truth, table.to_numpy()) > 0.85
    assert score("micro_f1", truth, table.to_numpy()) > 0.5


def side_by_side(digits: TensorCache) -> TensorCache:
    """Each digit beside the next one: the classes of both are its labels."""
    one, labels = digits.train.images, digits.train.known_labels()
    marks = F.one_hot(labels, 10) + F.one_hot(labels.roll(-1), 10)
    images = torch.cat([one, one.roll(-1, 0)], dim=2)
    part = replace(digits.train, images=images, labels=marks > 0)
    assert np.unique(marks.numpy()).tolist() == [0, 1, 2]
    return TensorCache(part, part, digits.classes)


@pytest.mark.parametrize("changes", [{"class_weights": 1.0}, {"class_weights": 1.0, "mixup": 0.5}])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(changes: dict[str, float]) -> None:
    data = skewed_data()
    images, labels = next(epoch_batches(data, recipe(**changes), 50, 0))
    images = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    found = []
    for micro_batch in (0, 8):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        execution = Execution(device="cpu", precision="fp32", micro_batch=micro_batch)
        state = start_training(model, data, recipe(**changes), execution)
        loss = accumulate(state, images, labels)
        found.append(torch.cat([loss[None], *(p.grad.flatten() for p in model.parameters())]))

    torch.testing.assert_close(found[1], found[0])
