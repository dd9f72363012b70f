"""The loop trains, measures what it says, and repeats itself to the last bit."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.utils import parameters_to_vector

from pipeline.errors import ConfigError
from pipeline.models import ImageClassifier
from pipeline.stages.train import ENGINE_VERSION
from pipeline.training.augment import fixed_view, shrink, take
from pipeline.training.batches import FoldData, epoch_batches, valid_batches
from pipeline.training.deadline import Deadline
from pipeline.training.loop import evaluate, train_fold
from pipeline.training.predict import SHIFTS, predict_probabilities
from pipeline.training.recipes import Recipe
from pipeline.training.run import CHECKPOINT, WEIGHTS, Network
from pipeline.training.start import start_training
from pipeline.training.step import plain_step
from pipeline.training.tables import read_probabilities
from tests.training.runs import CPU, FP32, NETWORK, make_run, train


def test_a_fold_learns_digits_and_leaves_its_artefacts(tmp_path, digits):
    run = make_run(tmp_path, digits, epochs=8)

    epochs = train(run, digits)

    probabilities = read_probabilities(run.fold(0) / "oof.csv")
    labels = pd.Series(digits.train.labels.numpy(), digits.train.ids).loc[probabilities.index]
    assert (probabilities.to_numpy().argmax(1) == labels).mean() > 0.85
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert len((run.fold(0) / "metrics.jsonl").read_text().splitlines()) == 8
    assert sorted(path.name for path in run.fold(0).iterdir()) == [
        "manifest.json",
        "metrics.jsonl",
        "oof.csv",
        "weights.safetensors",
    ]
    assert run.missing_folds() == [1, 2, 3]


class Twice(torch.nn.Module):
    """A network that has one layer under two names, as timm's CoaT has."""

    def __init__(self):
        super().__init__()
        self.first = self.second = torch.nn.Linear(64, 64)
        self.head = torch.nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.second(self.first(x.flatten(1)).relu()).relu())


def test_a_layer_that_is_used_twice_is_saved_under_both_names(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(Network, "build", lambda self, mean, std, weights=None: twice(mean, std))

    def twice(mean, std):
        return ImageClassifier(Twice(), mean, std)

    run = make_run(tmp_path, digits, epochs=1)
    train(run, digits)

    saved = load_file(run.fold(0) / WEIGHTS)
    assert torch.equal(saved["net.first.weight"], saved["net.second.weight"])
    assert run.network.load(run.fold(0)).net.first.weight.equal(saved["net.first.weight"])


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path, digits):
    def weights(name, seed):
        run = make_run(tmp_path / name, digits, seed=seed)
        train(run, digits)
        return (run.fold(0) / "weights.safetensors").read_bytes()

    assert weights("a", 0) == weights("b", 0) != weights("c", 1)


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_no_checkpoint(tmp_path, digits):
    run = make_run(tmp_path, digits, learning_rate=1e30)

    with pytest.raises(ConfigError, match=r"training loss of epoch 0 is nan; lower the learning"):
        train(run, digits)
    assert not (tmp_path / "fold0.unfinished" / CHECKPOINT).exists()


@pytest.mark.parametrize("norms", ["native", "torch"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_weight_that_is_no_number_ends_the_first_epoch(fold_data, precision, norms):
    model = NETWORK.build(torch.zeros(1), torch.ones(1))
    with torch.no_grad():
        next(p for p in model.parameters() if p.ndim == 4).view(-1)[0] = float("nan")
    execution = replace(FP32, precision=precision, norms=norms)

    with pytest.raises(ConfigError, match="training loss of epoch 0 is nan; lower the learning"):
        train_unsaved(model, fold_data, execution)


def test_a_validation_loss_that_is_no_number_ends_the_epoch_ahead_of_its_checkpoint(fold_data):
    model = NETWORK.build(torch.zeros(1), torch.ones(1))
    norm = next(part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d))
    norm.running_mean.fill_(float("nan"))  # training takes the batch's own

    with pytest.raises(ConfigError, match="validation loss of epoch 0 is nan; lower the learning"):
        train_unsaved(model, fold_data, FP32)


def train_unsaved(model, data, execution):
    def save(state):
        raise AssertionError("nothing is worth a checkpoint")

    recipe = Recipe(epochs=1, batch_size=64)
    state = start_training(model, data, recipe, execution)
    train_fold(state, data, recipe, execution, 0, save, Deadline())


@pytest.mark.parametrize("micro_batch", [0, 8])
def test_clipped_gradients_keep_their_direction(fold_data, micro_batch):
    moved = []
    for clip in (0.0, 0.01):
        torch.manual_seed(0)
        model = NETWORK.build(torch.full((1,), 80.0), torch.full((1,), 90.0))
        recipe = Recipe(epochs=1, batch_size=32, momentum=0.0, weight_decay=0.0, clip=clip)
        execution = replace(FP32, micro_batch=micro_batch)
        state = start_training(model, fold_data, replace(recipe, dropout=0.0), execution)
        before = parameters_to_vector(model.parameters()).detach().clone()
        plain_step(state, fold_data.images[:32], fold_data.labels[:32])
        rate = state.optimizer.param_groups[0]["lr"]
        moved.append((parameters_to_vector(model.parameters()).detach() - before) / rate)
    free, clipped = moved

    assert free.norm() > 0.02
    assert clipped.norm() == pytest.approx(0.01, rel=1e-2)
    assert torch.cosine_similarity(free, clipped, 0) > 0.999


@pytest.mark.parametrize("decision", [{}, {"norms": "native"}], ids=lambda d: str(d or "plain"))
def test_frozen_epochs_move_the_classifier_alone_and_the_others_everything(fold_data, decision):
    torch.manual_seed(0)
    model = NETWORK.build(torch.full((1,), 80.0), torch.full((1,), 90.0))
    recipe = Recipe(epochs=2, batch_size=64, frozen=0.5)
    execution = replace(FP32, **decision)
    state = start_training(model, fold_data, recipe, execution)
    states = [copy.deepcopy(model.state_dict())]

    def save(state):
        states.append(copy.deepcopy(state.model.state_dict()))

    train_fold(state, fold_data, recipe, execution, 0, save, Deadline())

    def moved(before, after):
        return {name for name in before if not torch.equal(before[name], after[name])}

    assert moved(*states[:2]) == {"net.head.weight", "net.head.bias"}
    assert moved(*states[1:]) == set(states[0]) - {"mean", "scale"}


def test_while_all_else_is_frozen_the_norm_of_a_classifier_learns_its_statistics(fold_data):
    model = replace(NETWORK, model="resnet-nntrain").build(torch.zeros(1), torch.ones(1))
    recipe = Recipe(epochs=1, batch_size=64, frozen=1.0)
    state = start_training(model, fold_data, recipe, FP32)

    train_fold(state, fold_data, recipe, FP32, 0, lambda state: None, Deadline())

    norms = {name for name, count in model.named_buffers() if name.endswith("tracked") and count}
    assert norms == {"net.norm.num_batches_tracked"}


def test_the_rate_in_the_history_is_the_classifiers(tmp_path, digits):
    alike, decayed = (
        train(make_run(tmp_path / str(decay), digits, layer_decay=decay), digits)
        for decay in (1.0, 0.7)
    )

    assert [e.learning_rate for e in decayed] == [e.learning_rate for e in alike]
    assert [e.train_loss for e in decayed] != [e.train_loss for e in alike]


@pytest.mark.parametrize(
    ("decision", "frozen"),
    [
        ({"compile": True}, 0.0),
        pytest.param({"compile": True}, 0.5, marks=pytest.mark.soak),  # compiles twice
        ({"norms": "native"}, 0.5),
    ],
)
def test_faster_training_agrees_and_leaves_an_ordinary_weights_file(
    tmp_path, digits, decision, frozen
):
    """Where the classifier moves alone at first, too."""
    alike = {"epochs": 2, "frozen": frozen, "dropout": 0.0, "learning_rate": 0.01}
    plain = make_run(tmp_path / "plain", digits, **alike)
    fast = make_run(tmp_path / "fast", digits, **alike, **decision)

    for usual, quick in zip(train(plain, digits), train(fast, digits), strict=True):
        assert quick.train_loss == pytest.approx(usual.train_loss, rel=1e-3)
    theirs, ours = (load_file(run.fold(0) / "weights.safetensors") for run in (plain, fast))
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)
    fast.network.load(fast.fold(0))


def test_an_epoch_sees_every_image_at_most_once_and_validation_never():
    data = FoldData(
        images=torch.arange(100, dtype=torch.uint8)[:, None, None, None].expand(100, 4, 4, 1),
        labels=torch.arange(100),
        train=torch.arange(0, 70),
        valid=torch.arange(70, 100),
        classes=100,
        mirror=True,
    )
    batches = list(epoch_batches(data, Recipe(epochs=1, batch_size=256), batch=32, seed=0))
    seen = torch.cat([labels for _, labels in batches])

    assert len(batches) == 2
    assert len(set(seen.tolist())) == 64
    assert seen.max() < 70
    for images, labels in batches:
        assert torch.equal(images.amax((1, 2, 3)).long(), labels)


@pytest.mark.parametrize(("side", "together"), [(32, 512), (64, 128), (512, 2), (800, 1)])
def test_the_larger_the_images_the_fewer_are_validated_at_once(side, together):
    data = FoldData(
        images=torch.zeros((), dtype=torch.uint8).expand(600, side, side, 1),
        labels=torch.zeros(600, dtype=torch.long),
        train=torch.arange(0),
        valid=torch.arange(min(600, 2 * together)),
        classes=2,
        mirror=False,
    )

    sizes = [len(labels) for _, labels in valid_batches(data)]

    assert sum(sizes) == len(data.valid)
    assert sizes[0] == together


@pytest.mark.parametrize("side", [8, 6])
def test_evaluate_counts_every_validation_image_once(fold_data, side):
    model = NETWORK.build(torch.zeros(1), torch.ones(1)).eval()

    loss, accuracy, seen = evaluate(model, fold_data, FP32, side=side)

    with torch.inference_mode():
        logits = model(shrink(fold_data.images[fold_data.valid], side))
    labels = fold_data.labels[fold_data.valid]
    torch.testing.assert_close(seen, logits)
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_small_sets_get_smaller_batches_but_never_more_than_they_have():
    recipe = Recipe(epochs=1, batch_size=256)

    assert recipe.batch_for(9600) == 256
    assert recipe.batch_for(1037) == 64
    assert recipe.batch_for(20) == 20


def test_early_epochs_see_small_images_but_never_tiny_ones():
    recipe = Recipe(epochs=10, batch_size=2, small_epochs=0.6, small_side=0.625)

    assert [recipe.side_for(epoch, 32) for epoch in range(10)] == [20] * 6 + [32] * 4
    assert recipe.side_for(0, 20) == 16
    assert recipe.side_for(0, 8) == 8


def test_the_engine_version_stands_for_these_losses(tmp_path, digits):
    """When this fails on purpose, raise ENGINE_VERSION: finished runs are then made anew.

    At this low rate the losses of processors that round differently stay together.
    """
    golden = json.loads(Path(__file__).with_name("golden_losses.json").read_text())

    epochs = train(make_run(tmp_path, digits, epochs=3, learning_rate=0.005), digits)

    assert golden["engine_version"] == ENGINE_VERSION
    assert [epoch.train_loss for epoch in epochs] == pytest.approx(golden["train"], rel=5e-4)
    assert [epoch.valid_loss for epoch in epochs] == pytest.approx(golden["valid"], rel=5e-4)


@pytest.mark.parametrize(("max_shift", "shifts"), [(1, SHIFTS), (0, SHIFTS[:1])])
def test_prediction_fuses_a_copy_and_agrees_with_the_model(fold_data, max_shift, shifts):
    torch.manual_seed(0)
    model = NETWORK.build(torch.full((1,), 80.0), torch.full((1,), 90.0))
    model(fold_data.images[:200])  # moves the running statistics
    rows = fold_data.valid[:70]

    probabilities = predict_probabilities(
        model, fold_data.images, rows, True, FP32, max_shift=max_shift, batch_pixels=64 * 32
    )

    assert model.training
    model.eval()
    with torch.inference_mode():
        views = [
            take(fold_data.images, rows, fixed_view(len(rows), down, right, mirrored, CPU))
            for down, right in shifts
            for mirrored in (False, True)
        ]
        expected = torch.stack([model(view) for view in views]).mean(0).softmax(1)
    torch.testing.assert_close(probabilities, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("frozen", [-0.1, 1.5])
def test_what_is_no_fraction_is_refused(frozen):
    with pytest.raises(ConfigError, match=f"frozen={frozen}: choose a fraction from 0 to 1"):
        Recipe(epochs=1, batch_size=2, frozen=frozen)


@pytest.mark.parametrize(
    ("max_shift", "side", "pixels"), [(0.0625, 8, 1), (0.0625, 32, 2), (0.125, 28, 4), (0.0, 32, 0)]
)
def test_a_shift_above_zero_is_at_least_a_pixel(max_shift, side, pixels):
    recipe = Recipe(epochs=1, batch_size=2, max_shift=max_shift)

    assert recipe.shift_for(side) == pixels
