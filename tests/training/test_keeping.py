"""The epoch that is kept: the best by the competition's metric, whatever its direction."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.errors import ConfigError
from pipeline.metrics import score
from pipeline.training.batches import FoldData
from pipeline.training.deadline import Deadline
from pipeline.training.fold import run_fold
from pipeline.training.keeping import BestEpoch, validation_score
from pipeline.training.recipes import Recipe
from tests.training.runs import make_run

CPU = torch.device("cpu")


def fold_data(labels, classes):
    rows = torch.arange(len(labels))
    return FoldData(
        images=torch.zeros(len(labels), 8, 8, 1, dtype=torch.uint8),
        labels=labels,
        train=rows[:0],
        valid=rows.flip(0),
        classes=classes,
        mirror=False,
    )


@pytest.mark.parametrize(("metric", "kept"), [("accuracy", 1), ("log_loss", 2)])
def test_the_first_of_the_best_is_kept_as_it_was_then(metric, kept):
    best, model = BestEpoch(metric), nn.Linear(1, 1)

    for epoch, value in enumerate([0.5, 0.7, 0.3, 0.7, 0.3]):
        nn.init.constant_(model.weight, epoch)
        best.offer(epoch, value, model)

    assert best.epoch == kept
    assert best.weights["weight"].item() == kept


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "log_loss", "roc_auc", "map@3"])
def test_a_score_is_the_metrics_own(metric):
    generator = torch.Generator().manual_seed(0)
    data = fold_data(torch.arange(40) % 4, classes=4)
    logits = torch.randn(40, 4, generator=generator)

    value = validation_score(metric, data, logits)

    truth = data.labels[data.valid].numpy()
    assert value == pytest.approx(score(metric, truth, logits.softmax(1).double().numpy()))


def test_of_several_labels_each_has_a_probability_of_its_own():
    labels = torch.tensor([[True, False], [True, True], [False, True], [False, False]])
    data = fold_data(labels, classes=2)
    logits = torch.tensor([[-1.0, -2.0], [-2.0, 3.0], [0.5, 1.0], [1.0, 2.0]])

    expected = score("macro_f1", labels.flip(0).numpy(), logits.sigmoid().numpy())
    assert validation_score("macro_f1", data, logits) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:Only one class")
def test_a_metric_that_is_undefined_can_choose_nothing():
    data = fold_data(torch.zeros(5, dtype=torch.long), classes=2)

    with pytest.raises(ConfigError, match="roc_auc is undefined on a fold's 5 validation images"):
        validation_score("roc_auc", data, torch.randn(5, 2))


@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_the_best_epoch_predicts_is_saved_and_is_named_in_the_metrics(tmp_path, digits, ema):
    # The rate is so high that validation goes up and down.
    run = make_run(
        tmp_path, digits, epochs=6, learning_rate=3.0, keep="best", metric="map@3", ema=ema
    )
    states = []

    run_fold(run, digits, 0, CPU, states.append, Deadline())

    lines = [json.loads(line) for line in (run.fold(0) / "metrics.jsonl").read_text().splitlines()]
    scores = [line["valid_score"] for line in lines]
    assert [line["kept"] for line in lines].index(True) == int(np.argmax(scores))
    assert sum(line["kept"] for line in lines) == 1
    model = run.network.load(run.fold(0)).eval()
    rows = torch.arange(0, 600, 4)
    with torch.inference_mode():
        probabilities = model(digits.train.images[rows]).softmax(1).double().numpy()
    assert score("map@3", digits.train.labels[rows].numpy(), probabilities) == max(scores)
    plain = make_run(tmp_path / "plain", digits, epochs=1)
    run_fold(plain, digits, 0, CPU, states.append, Deadline())
    (line,) = (plain.fold(0) / "metrics.jsonl").read_text().splitlines()
    assert not {"kept", "valid_score"} & json.loads(line).keys()
    names = [load_file(each.fold(0) / "weights.safetensors").keys() for each in (run, plain)]
    assert names[0] == names[1]


def test_a_recipe_without_an_epoch_at_full_size_has_none_to_choose():
    with pytest.raises(ConfigError, match=r"small_epochs=1\.0 leaves none"):
        Recipe(epochs=4, batch_size=2, keep="best", small_epochs=1.0, small_side=0.5)
    with pytest.raises(ConfigError, match="keep='first' is unknown; choose from last, best"):
        Recipe(epochs=4, batch_size=2, keep="first")
