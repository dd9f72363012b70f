"""Averaged weights: what they are, what they predict, and that an ordinary weights file is left."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.errors import BudgetError, ConfigError, DataError
from pipeline.training.averaging import Average
from pipeline.training.deadline import Deadline
from pipeline.training.fold import run_fold
from pipeline.training.recipes import Recipe, make_recipe
from pipeline.training.run import Run
from pipeline.training.tables import read_probabilities
from tests.training.runs import make_run

CPU = torch.device("cpu")


def train(run, data, deadline=None):
    epochs = []
    run_fold(run, data, 0, CPU, epochs.append, deadline or Deadline())
    return epochs


def test_an_average_is_a_mean_at_first_and_exponential_from_then_on():
    model = nn.BatchNorm1d(1)
    average = Average(model, decay=0.75)
    expected = 0.0

    for step, value in enumerate([8.0, 4.0, 3.0, 1.0, 5.0, 9.0], start=1):
        nn.init.constant_(model.weight, value)
        model.running_mean.fill_(-value)
        model.num_batches_tracked.add_(1)
        average.update()
        expected += max(0.25, 1 / step) * (value - expected)
        if step <= 4:
            assert average.model.weight.item() == pytest.approx(
                sum([8.0, 4.0, 3.0, 1.0][:step]) / step
            )
        assert average.model.weight.item() == pytest.approx(expected)
        assert average.model.running_mean.item() == pytest.approx(-expected)
        assert average.model.num_batches_tracked == step
    assert model.weight.item() == 9.0


@pytest.mark.parametrize("decision", [{}, {"norms": "native"}], ids=str)
def test_the_averaged_network_is_validated_predicts_and_is_saved(tmp_path, digits, decision):
    plain, averaged = (
        make_run(tmp_path / name, digits, epochs=4, learning_rate=0.1, ema=ema, **decision)
        for name, ema in (("plain", 0.0), ("averaged", 0.8))
    )

    without, with_average = train(plain, digits), train(averaged, digits)

    losses = [[epoch.train_loss for epoch in epochs] for epochs in (without, with_average)]
    assert losses[0] == losses[1], "training itself must not see the average"
    assert without[-1].valid_loss != with_average[-1].valid_loss
    weights = [load_file(run.fold(0) / "weights.safetensors") for run in (plain, averaged)]
    assert weights[0].keys() == weights[1].keys()
    saved = averaged.network.load(averaged.fold(0)).eval()
    table = read_probabilities(averaged.fold(0) / "oof.csv")
    rows = [digits.train.ids.index(name) for name in table.index]
    with torch.inference_mode():
        logits = saved(digits.train.images[rows])
    loss = nn.functional.cross_entropy(logits, digits.train.labels[rows]).item()
    assert loss == pytest.approx(with_average[-1].valid_loss, rel=1e-4)


def test_a_checkpoint_of_another_choice_is_refused(tmp_path, digits):
    run = make_run(tmp_path, digits, ema=0.9)
    with pytest.raises(BudgetError):
        train(run, digits, Deadline.after(0))
    record = {**run.record, "recipe": {**run.record["recipe"], "ema": 0.0, "keep": "best"}}

    with pytest.raises(DataError, match=r"another ema or keep \(ema there, keep in the recipe\)"):
        train(Run(run.folder, record), digits)
    record["recipe"]["keep"] = "last"
    with pytest.raises(DataError, match=r"\(ema there, neither in the recipe\); delete it and"):
        train(Run(run.folder, record), digits)


@pytest.mark.parametrize("ema", ["1", "-0.1", "nan"])
def test_what_is_no_decay_is_refused(ema):
    with pytest.raises(ConfigError, match=r"choose a decay from 0 to below 1"):
        make_recipe("smoke", {"ema": ema})
    assert replace(Recipe(epochs=1, batch_size=2), ema=0.99).ema == 0.99
