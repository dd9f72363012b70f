"""The schedules: the shapes they promise, torch's one-cycle, and resumption to the same rates."""

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.optimizers import make_optimizer
from pipeline.training.schedules import make_schedule, schedule_names

NAMES = schedule_names()


def build(optimizer="sgd"):
    return make_optimizer(
        optimizer,
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Linear(2, 2)),  # three groups
        learning_rate=0.5,
        momentum=0.9,
        weight_decay=0.0,
    )


def walk(optimizer, schedule, steps):
    """What the first group is set to at each step."""
    seen = []
    for _ in range(steps):
        group = optimizer.param_groups[0]
        seen.append((group["lr"], group.get("momentum", group.get("betas"))))
        optimizer.step()
        schedule.step()
    return seen


def rates(name, steps, warmup):
    optimizer = build()
    return [lr for lr, _ in walk(optimizer, make_schedule(name, optimizer, steps, warmup), steps)]


def test_linear_rises_to_the_peak_and_falls_towards_zero():
    expected = [0.25, 0.5, 0.5, 0.4375, 0.375, 0.3125, 0.25, 0.1875, 0.125, 0.0625]
    assert rates("linear", 10, 0.2) == pytest.approx(expected)


def test_cosine_rises_linearly_and_falls_as_half_a_cosine():
    seen = rates("cosine", 100, 0.2)

    assert seen[:20] == pytest.approx([0.025 * step for step in range(1, 21)])
    assert seen[60] == pytest.approx(0.25)
    assert seen[80] == pytest.approx(0.25 * (1 - 0.5**0.5))
    assert seen[20:] == sorted(seen[20:], reverse=True)


def test_the_rise_is_of_the_nearest_whole_number_of_steps():
    assert rates("constant", 10, 0.18)[:3] == pytest.approx([0.25, 0.5, 0.5])


def test_constant_stays_at_the_peak():
    assert rates("constant", 10, 0.2) == pytest.approx([0.25] + 9 * [0.5])
    assert rates("constant", 10, 0.0) == [0.5] * 10


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon", "nntrain-adam", "nntrain-rmsprop"])
def test_one_cycle_is_torchs_with_momentum_or_beta(optimizer):
    ours, torchs = build(optimizer), build(optimizer)
    schedule = make_schedule("one-cycle", ours, 40, 0.25)
    reference = torch.optim.lr_scheduler.OneCycleLR(torchs, 0.5, total_steps=40, pct_start=0.25)

    seen = walk(ours, schedule, 40)

    assert seen == walk(torchs, reference, 40)
    assert seen[9][0] == max(lr for lr, _ in seen) == pytest.approx(0.5)
    first, lowest = (seen[step][1] for step in (0, 9))
    assert (first, lowest) == (
        ((0.95, 0.999), (0.85, 0.999)) if optimizer == "adam" else pytest.approx((0.95, 0.85))
    )


@pytest.mark.parametrize("name", NAMES)
def test_rates_stay_between_zero_and_the_peak_however_short_the_training(name):
    for steps in range(1, 12):
        for warmup in (0.0, 0.1, 0.2, 0.5, 0.99):
            seen = rates(name, steps, warmup)
            assert len(seen) == steps
            assert all(0 < rate <= 0.5 for rate in seen[:-1]), (steps, warmup)
            assert 0 <= seen[-1] <= 0.5


@pytest.mark.parametrize("name", NAMES)
def test_every_group_is_scaled_by_the_same_factor(name):
    optimizer = build()
    optimizer.param_groups[1]["lr"] = 0.05
    schedule = make_schedule(name, optimizer, 20, 0.3)

    for _ in range(20):
        first, second, _ = (group["lr"] for group in optimizer.param_groups)
        assert second == pytest.approx(first / 10)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", NAMES)
def test_a_schedule_resumed_from_a_file_gives_the_same_rates(name, optimizer, tmp_path):
    straight = build(optimizer)
    schedule = make_schedule(name, straight, 20, 0.3)
    walk(straight, schedule, 7)
    parts = [straight.state_dict(), schedule.state_dict()]
    save_checkpoint(tmp_path / "state.pt", {"parts": parts})
    expected = walk(straight, schedule, 13)

    resumed = build(optimizer)
    again = make_schedule(name, resumed, 20, 0.3)
    saved = load_checkpoint(tmp_path / "state.pt", torch.device("cpu"))
    for part, state in zip((resumed, again), saved["parts"], strict=True):
        part.load_state_dict(state)

    assert walk(resumed, again, 13) == expected


def test_an_unknown_schedule_is_named_with_the_choices():
    with pytest.raises(ConfigError, match=r"schedule='step' is unknown; choose from constant, "):
        make_schedule("step", build(), 10, 0.2)
