"""Recorded steps do what plain ones do. Needs a GPU."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pipeline.training.batches import FoldData
from pipeline.training.deadline import Deadline
from pipeline.training.execution import choose_execution
from pipeline.training.loop import train_fold
from pipeline.training.recipes import Recipe
from pipeline.training.recording import WARM_UP_STEPS
from pipeline.training.start import start_training
from pipeline.training.step import take_step
from tests.training.runs import NETWORK

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

# Two runs differ by the order in which gradients are summed; high rates make much of that.
GENTLE = Recipe(epochs=2, batch_size=32, learning_rate=0.02)
RECIPES = {
    "sgd": GENTLE,
    "adamw": Recipe(epochs=2, batch_size=32, optimizer="adamw", learning_rate=1e-3),
    "muon": Recipe(epochs=2, batch_size=32, optimizer="muon", learning_rate=5e-3),
    "one-cycle": Recipe(
        epochs=2, batch_size=32, optimizer="adam", learning_rate=1e-3, schedule="one-cycle"
    ),
    "rmsprop": Recipe(epochs=2, batch_size=32, optimizer="nntrain-rmsprop", learning_rate=1e-3),
    "mixup": replace(GENTLE, mixup=0.5),
    "clipped": replace(GENTLE, clip=0.5),
    "average": replace(GENTLE, ema=0.9),
    "frozen": Recipe(epochs=2, batch_size=32, frozen=0.5, optimizer="adamw", learning_rate=1e-3),
    "layers": Recipe(
        epochs=2, batch_size=32, layer_decay=0.7, optimizer="muon", learning_rate=5e-3
    ),
    "small": replace(GENTLE, small_epochs=0.5, small_side=0.5),
}


@pytest.fixture
def fold_data(digits):
    rows = torch.arange(600, device="cuda")
    images = nn.functional.pad(digits.train.images, (0, 0, 12, 12, 12, 12))
    return FoldData(
        images=images.cuda(),
        labels=digits.train.labels.cuda(),
        train=rows[:450],
        valid=rows[450:],
        classes=10,
        mirror=False,
    )


def started(data, recipe, *, graphs, precision="fp32", micro_batch=0):
    torch.manual_seed(0)
    asked = {"graphs": graphs, "precision": precision}
    execution = replace(choose_execution("cuda", asked=asked), micro_batch=micro_batch)
    model = replace(NETWORK, dropout=0.0).build(torch.full((1,), 80.0), torch.full((1,), 90.0))
    return start_training(model.cuda(), data, recipe, execution)


def trained(data, recipe, **choices):
    state = started(data, recipe, **choices)
    execution = choose_execution("cuda", asked={"precision": choices.get("precision", "fp32")})
    train_fold(state, data, recipe, execution, 0, lambda state: None, Deadline())
    return state


@pytest.mark.parametrize("name", RECIPES)
def test_the_losses_are_those_of_plain_steps(fold_data, name):
    plain = trained(fold_data, RECIPES[name], graphs="off")
    recorded = trained(fold_data, RECIPES[name], graphs="on")

    assert plain.recording is None
    assert recorded.recording.problem is None
    assert recorded.recording.is_replaying
    for ours, theirs in zip(recorded.history, plain.history, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=2e-2)
        assert ours.valid_loss == pytest.approx(theirs.valid_loss, rel=5e-2)


@pytest.mark.parametrize(
    "choice", [{"precision": "fp16"}, {"precision": "bf16"}, {"micro_batch": 8}]
)
def test_with_a_scaler_and_in_parts(fold_data, choice):
    plain = trained(fold_data, RECIPES["sgd"], graphs="off", **choice)
    recorded = trained(fold_data, RECIPES["sgd"], graphs="on", **choice)

    assert recorded.recording.is_replaying
    last, expected = recorded.history[-1].train_loss, plain.history[-1].train_loss
    assert last == pytest.approx(expected, rel=5e-2)


def test_the_first_replays_are_the_steps_that_plain_training_takes(fold_data):
    images, labels = fold_data.images[:32], fold_data.labels[:32]
    states = []
    for graphs in ("off", "on"):
        state = started(fold_data, GENTLE, graphs=graphs)
        for _ in range(WARM_UP_STEPS + 3):
            loss = take_step(state, images, labels).item()
        states.append((state, loss))
    (plain, expected), (recorded, loss) = states
    assert recorded.recording.is_replaying
    assert loss == pytest.approx(expected, rel=1e-3)
    for ours, theirs in zip(recorded.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-4)


def test_a_network_that_waits_for_the_device_goes_on_plainly(fold_data, capsys):
    state = started(fold_data, GENTLE, graphs="on")
    compute = state.loss

    def waiting(images, labels):
        loss = compute(images, labels)
        return loss * (1.0 if loss.item() > 0 else 2.0)

    state.loss = waiting
    images, labels = fold_data.images[:16], fold_data.labels[:16]
    for _ in range(WARM_UP_STEPS + 3):
        take_step(state, images, labels)

    assert state.recording.problem is not None
    assert not state.recording.is_replaying
    assert "training steps cannot be recorded and are launched" in capsys.readouterr().err
    assert torch.isfinite(take_step(state, images, labels))
