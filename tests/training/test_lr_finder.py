"""The range test finds a rate that trains well, says when there is none, and leaves no trace."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.competition import Competition
from pipeline.data.cache import build_cache
from pipeline.data.layouts import RawDataset, RawPart
from pipeline.errors import ConfigError
from pipeline.stages.lr_find import lr_find
from pipeline.stages.settings import Settings
from pipeline.training.execution import Execution
from pipeline.training.lr_finder import RangeTest, plot_range_test, range_test
from pipeline.training.optimizers import make_optimizer

FP32 = Execution(device="cpu", precision="fp32")
RATES = [10 ** (exponent / 10) for exponent in range(-50, 11)]


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return torch.from_numpy(images).float() / 16, torch.from_numpy(labels)


def batches(digits, seed=0):
    images, labels = digits
    generator = torch.Generator().manual_seed(seed)
    while True:
        index = torch.randint(len(images), (128,), generator=generator)
        yield images[index], labels[index]


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10)
    )


def optimizer_of(name, rate=1.0):
    def make(model):
        return make_optimizer(name, model, learning_rate=rate, momentum=0.9, weight_decay=5e-4)

    return make


def loss_after_training(digits, name, rate, steps=40):
    model = network()
    optimizer = optimizer_of(name, rate)(model)
    losses = []
    for _, (images, labels) in zip(range(steps), batches(digits, seed=1), strict=False):
        loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return np.mean(losses[-10:])


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon", "nntrain-averaged-momentum"])
def test_the_suggestion_trains_better_than_far_lower_and_far_higher_rates(digits, name):
    result = range_test(network(), optimizer_of(name), batches(digits), FP32, cross_entropy)

    suggested, lower, higher = (
        loss_after_training(digits, name, factor * result.suggestion) for factor in (1, 0.03, 30)
    )

    assert suggested < lower
    assert suggested < higher


def test_the_model_stays_as_it_is(digits):
    model = network().eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}

    range_test(model, optimizer_of("sgd"), batches(digits), FP32, cross_entropy)

    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_hundred_rates_grow_by_the_same_factor_from_1e_5_to_10(digits):
    steady = nn.Sequential(network(), nn.Softmax(dim=1))  # its loss cannot rise above ln 10 + 1

    result = range_test(steady, optimizer_of("sgd"), batches(digits), FP32, cross_entropy)

    assert len(result.losses) == 100
    assert result.rates == pytest.approx(np.geomspace(1e-5, 10, 100))


def test_label_smoothing_raises_the_loss_that_is_measured(digits):
    plain, smoothed = (
        range_test(network(), optimizer_of("sgd"), batches(digits), FP32, compare)
        for compare in (cross_entropy, partial(cross_entropy, label_smoothing=0.5))
    )

    assert min(smoothed.losses) > min(plain.losses) + 0.5


def test_steps_are_clipped_as_in_training(digits):
    def test(clip):
        return range_test(
            network(), optimizer_of("sgd"), batches(digits), FP32, cross_entropy, clip
        )

    plain, loose, tight = (test(clip) for clip in (0.0, 1e6, 1e-3))

    assert loose.losses == plain.losses
    assert tight.suggestion > 2 * plain.suggestion


def test_a_diverging_loss_ends_the_test(digits):
    deep = nn.Sequential(*[nn.Linear(64, 64) for _ in range(6)], nn.Linear(64, 10))

    result = range_test(deep, optimizer_of("sgd"), batches(digits), FP32, cross_entropy)

    assert len(result.rates) < 100
    assert np.isfinite(result.losses).all()
    assert result.suggestion < result.rates[-1]


def test_half_of_the_fall_lost_is_the_end_noise_is_not():
    falling = np.linspace(1.2, 1.0, 40) + np.tile([0.03, -0.03], 20)
    lost = [*falling, *[1.2] * 7]

    ended = [RangeTest(RATES[:n], list(lost[:n])).diverged for n in range(1, len(lost) + 1)]

    assert not any(ended[: len(falling)])
    assert ended[-1]


def test_the_suggestion_is_the_highest_rate_that_is_about_as_good_as_the_best():
    # Falls from 2 to 1 until 1e-2, rises by a hundredth of that fall until 0.1, then diverges.
    exponents = np.log10(RATES)
    losses = np.interp(exponents, [-5, -4, -2, -1, 0, 1], [2, 2, 1, 1.01, 3, 9])

    result = RangeTest(RATES, losses.tolist())

    assert 0.05 < result.suggestion < 0.12


def test_single_lucky_steps_decide_nothing():
    losses = np.interp(np.log10(RATES), [-5, -4, -2, -1, 0, 1], [2, 2, 1, 1, 3, 9])
    calm = RangeTest(RATES, losses.tolist()).suggestion
    losses[-3] = 0.9

    assert RangeTest(RATES, losses.tolist()).suggestion == calm


@pytest.mark.parametrize("losses", [[], [1.0, 0.5], [1 + 0.01 * step for step in range(61)]])
def test_where_nothing_is_learned_nothing_is_suggested(losses):
    with pytest.raises(ConfigError, match=r"the loss did not fall in .* nothing to suggest"):
        _ = RangeTest(RATES[: len(losses)], losses).suggestion


def test_images_that_are_no_numbers_suggest_nothing(digits):
    images, labels = digits
    damaged = (torch.full_like(images, float("nan")), labels)

    result = range_test(network(), optimizer_of("sgd"), batches(damaged), FP32, cross_entropy)

    with pytest.raises(ConfigError, match="did not fall in 0 steps"):
        _ = result.suggestion


def test_the_plot_is_a_png(digits):
    result = range_test(network(), optimizer_of("sgd"), batches(digits), FP32, cross_entropy)

    assert plot_range_test("digits", result).startswith(b"\x89PNG")


@pytest.fixture
def cache(tmp_path):
    """Three classes of handwritten digits as a competition's cache."""
    data = load_digits(n_class=3)
    images = (data.images[..., None] * 15).astype(np.uint8)
    ids = [str(row) for row in range(len(images))]
    labels = [str(label) for label in data.target]
    competition = Competition(slug="digits")
    part = RawPart(ids, images, labels)
    (tmp_path / "cache").mkdir()
    build_cache(RawDataset(part, part, ("0", "1", "2"), "arrays", competition), tmp_path / "cache")
    return competition, tmp_path / "cache"


def test_the_stage_writes_a_plot_and_numbers_and_says_what_to_do(cache, tmp_path, capsys):
    competition, folder = cache
    settings = Settings(competition="digits", recipe="smoke", execution="folded", root=tmp_path)

    first = lr_find(settings, competition, folder)

    assert first.parent == tmp_path / "submissions/digits/lr-find"
    assert first.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(first.read_text())
    suggestion, batch = found["suggestion"], found["batch"]
    assert suggestion["rate"] in found["rates"]
    assert suggestion["learning_rate"] == pytest.approx(suggestion["rate"] * 128 / batch, rel=0.05)
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"learning_rate={suggestion['learning_rate']:g}" in last
    assert lr_find(settings, competition, folder).read_bytes() == first.read_bytes()
    clipped = lr_find(replace(settings, set="clip=0.01"), competition, folder)
    assert json.loads(clipped.read_text())["losses"] != found["losses"]


def test_images_with_several_labels_are_compared_as_in_training(tmp_path):
    data = load_digits()
    sets = [
        ("odd",) * (label % 2) + ("large",) * (label > 4) for label in data.target[:150].tolist()
    ]
    images = (data.images[:150, :, :, None] * 15).astype(np.uint8)
    part = RawPart([str(row) for row in range(150)], images, label_sets=sets)
    competition = Competition(slug="digits", multi_label=True)
    (tmp_path / "cache").mkdir()
    dataset = RawDataset(part, part, ("odd", "large"), "arrays", competition)
    build_cache(dataset, tmp_path / "cache")
    settings = Settings(
        competition="digits",
        recipe="smoke",
        model="nntrain-cnn",
        execution="folded",
        root=tmp_path,
    )

    found = json.loads(lr_find(settings, competition, tmp_path / "cache").read_text())

    assert found["losses"][0] == pytest.approx(2 * np.log(2), rel=0.5)
