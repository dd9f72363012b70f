"""The loop trains, measures what it says, and repeats itself to the last bit."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.training.fold import Network, run_fold
from pipeline.training.loop import FoldData, epoch_batches, evaluate, make_optimizer, one_cycle
from pipeline.training.precision import Execution, precision_for
from pipeline.training.predict import predict_probabilities
from pipeline.training.recipes import Recipe

FP32 = Execution(device="cpu", precision="fp32", reason="test")
NETWORK = Network(model="resnet14", conv="channel-selection", channels=1, classes=10, dropout=0.2)


@pytest.fixture(scope="module")
def digits():
    """600 handwritten digits, 8 x 8, the last 150 for validation."""
    data = load_digits()
    images = torch.from_numpy((data.images[:600, ..., None] * 15).astype(np.uint8))
    labels = torch.from_numpy(data.target[:600]).long()
    rows = torch.arange(600)
    return FoldData(images=images, labels=labels, train=rows[:450], valid=rows[450:], mirror=False)


def train(folder, data, recipe, seed=0):
    epochs = []
    probabilities = run_fold(folder, NETWORK, data, recipe, FP32, seed, epochs.append)
    return epochs, probabilities


def test_a_fold_learns_digits_and_leaves_its_artefacts(tmp_path, digits):
    epochs, probabilities = train(tmp_path, digits, Recipe(epochs=8, batch_size=256))

    accuracy = (probabilities.argmax(1) == digits.labels[digits.valid]).float().mean().item()
    assert accuracy > 0.85
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 8
    reloaded = predict_probabilities(
        NETWORK.load(tmp_path), digits.images, digits.valid, digits.mirror, FP32
    )
    assert torch.equal(reloaded, probabilities)


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path, digits):
    def probabilities(name, seed):
        (tmp_path / name).mkdir()
        return train(tmp_path / name, digits, Recipe(epochs=2, batch_size=256), seed)[1]

    first, second, other = probabilities("a", 0), probabilities("b", 0), probabilities("c", 1)

    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_an_epoch_sees_every_image_at_most_once_and_validation_never(digits):
    data = FoldData(
        images=torch.arange(100, dtype=torch.uint8)[:, None, None, None].expand(100, 4, 4, 1),
        labels=torch.arange(100),
        train=torch.arange(0, 70),
        valid=torch.arange(70, 100),
        mirror=True,
    )
    batches = list(epoch_batches(data, Recipe(epochs=1, batch_size=256), batch=32, seed=0))
    seen = torch.cat([labels for _, labels in batches])

    assert len(batches) == 2
    assert len(set(seen.tolist())) == 64
    assert seen.max() < 70
    for images, labels in batches:
        assert torch.equal(images.amax((1, 2, 3)).long(), labels)


def test_evaluate_counts_every_validation_image_once(digits):
    model = NETWORK.build(torch.zeros(1), torch.ones(1)).eval()

    loss, accuracy = evaluate(model, digits, FP32, side=8, batch=64)

    with torch.inference_mode():
        logits = model(digits.images[digits.valid])
    labels = digits.labels[digits.valid]
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_one_cycle_rises_to_one_and_falls_to_nothing():
    factor = one_cycle(steps=100, warmup=0.2)
    values = [factor(step) for step in range(100)]

    assert values.index(max(values)) in (19, 20)
    assert max(values) == 1
    assert values[0] == pytest.approx(0.05)
    assert 0 < values[-1] < 0.02


def test_norms_and_biases_do_not_decay():
    model = NETWORK.build(torch.zeros(1), torch.ones(1))
    decayed, kept = make_optimizer(model, Recipe(epochs=1, batch_size=256), batch=256).param_groups

    assert decayed["weight_decay"] == 5e-4
    assert kept["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim <= 1 for p in kept["params"])


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


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((6, 0), "fp32")],
)
def test_precision_goes_by_compute_capability(capability, precision):
    chosen, reason = precision_for(capability)

    assert chosen == precision
    assert f"{capability[0]}.{capability[1]}" in reason
