"""A fair split is not told apart; a shifted one is."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from pipeline.audit import shift, views
from pipeline.audit.shift import train_test_shift
from pipeline.errors import DataError


def fair_split():
    """Pieces of two photographs, dealt at random: 1300 for training, 700 for the test."""
    rng = np.random.default_rng(0)
    photos = load_sample_images().images
    corners = rng.integers(0, (2, 395, 608), (2000, 3))
    pieces = np.stack([photos[p][top : top + 32, left : left + 32] for p, top, left in corners])
    return torch.from_numpy(pieces[:1300]), torch.from_numpy(pieces[1300:])


def blurred(images):
    rows = images.permute(0, 3, 1, 2).float()
    return torch.nn.functional.avg_pool2d(rows, 3, 1, 1).permute(0, 2, 3, 1).byte()


def test_a_fair_split_is_not_told_apart():
    found = train_test_shift(*fair_split(), seed=0)

    assert 0.45 <= found.auc <= 0.55
    assert found.at_least < found.auc
    assert found.images == (1300, 700)


@pytest.mark.parametrize(
    ("change", "statistic"),
    [
        (lambda images: (images.float() + 40).clamp(0, 255).byte(), "brightness"),
        (lambda images: ((images.float() - 128) * 0.6 + 128).byte(), "contrast"),
        (blurred, "sharpness"),
    ],
    ids=["brighter", "less contrast", "blurred"],
)
def test_a_shifted_split_is_told_apart_and_the_statistic_says_why(change, statistic):
    train, test = fair_split()

    found = train_test_shift(train, change(test), seed=0)

    assert found.auc > 0.8
    means = found.statistics[statistic]
    assert abs(means[1] - means[0]) > 5
    assert means[2] > 0.54


def test_the_same_seed_gives_the_same_figures_and_few_images_are_looked_at(monkeypatch):
    train, test = fair_split()
    monkeypatch.setattr(shift, "MOST_IMAGES", 400)

    one, other = (train_test_shift(train, test[:300], seed=3) for _ in range(2))

    assert one == other
    assert one.images == (400, 300)


def test_large_images_are_looked_at_a_few_at_a_time(monkeypatch):
    train, test = (part[:40] for part in fair_split())
    together = train_test_shift(train, test, seed=0)
    assert views.at_once(torch.empty((9, 1024, 1024, 3), device="meta")) == 5
    quantile, held = torch.quantile, []

    def noted(values, *arguments, **named):
        held.append(len(values))
        return quantile(values, *arguments, **named)

    monkeypatch.setattr(torch, "quantile", noted)
    monkeypatch.setattr(views, "_VALUES", 7 * train[0].numel())

    assert train_test_shift(train, test, seed=0) == together
    assert held == [7, 7, 7, 7, 7, 5] * 2


def test_too_few_images_are_refused():
    train, test = fair_split()

    with pytest.raises(DataError, match=r"1300 training and 9 test images: .* at least 10 of each"):
        train_test_shift(train, test[:9], seed=0)
