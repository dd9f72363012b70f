"""Pseudo-labels: which test images a fold takes, and how they join its training images."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from pipeline.artifacts import sha256_of
from pipeline.data.cache import Part
from pipeline.errors import BudgetError, DataError
from pipeline.training.batches import FoldData, epoch_batches
from pipeline.training.deadline import Deadline
from pipeline.training.fold import run_fold
from pipeline.training.pseudo import confident, pseudo_hash, with_pseudo, write_pseudo
from pipeline.training.recipes import Recipe
from pipeline.training.run import Run
from tests.training.runs import make_run

CPU = torch.device("cpu")


@pytest.fixture
def data(digits):
    """The digits with test images of their own: the training images, brighter."""
    images = (digits.train.images[:200].int() + 15).clamp(max=255).to(torch.uint8)
    ids = [f"t{row}" for row in range(200)]
    ids[50] = "NA"
    return replace(digits, test=Part(images=images, ids=ids))


def with_tables(run, data, rows):
    """The run with the test images `rows` pseudo-labelled in fold 0, last one first."""
    table = pd.DataFrame(
        {
            "id": [data.test.ids[row] for row in reversed(rows)],
            "label": [str(data.train.labels[row].item()) for row in reversed(rows)],
            "probability": 0.99,
        }
    )
    path = run.folder / "pseudo0.csv"
    write_pseudo(path, table)
    record = {**run.record, "pseudo": {"sha256": [sha256_of(path)]}}
    (run.folder / "run.json").write_text(json.dumps(record))
    return Run.open(run.folder)


def train(run, data, deadline=None):
    run_fold(run, data, 0, CPU, lambda _: None, deadline or Deadline())
    return (run.fold(0) / "weights.safetensors").read_bytes()


def test_only_what_the_network_is_sure_of_is_taken_in_order():
    probabilities = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.97, 0.03], [0.2, 0.8]])

    table = confident(["d", "a", "c", "b"], probabilities, ("no", "yes"), 0.8)

    assert table.to_dict("list") == {
        "id": ["a", "c", "b"],
        "label": ["yes", "no", "yes"],
        "probability": pytest.approx([0.9, 0.97, 0.8]),
    }


def test_pseudo_labelled_images_stand_behind_the_training_images(tmp_path, data):
    run = with_tables(make_run(tmp_path, data), data, [3, 50, 7])
    rows = torch.arange(600)
    fold = FoldData(
        images=data.train.images,
        labels=data.train.labels,
        train=rows[rows % 4 != 0],
        valid=rows[rows % 4 == 0],
        classes=10,
        mirror=False,
    )

    joined = with_pseudo(fold, run, data, 0)

    assert joined.train[-3:].tolist() == [600, 601, 602]
    assert torch.equal(joined.images[600:], data.test.images[[7, 50, 3]])
    assert torch.equal(joined.labels[600:], data.train.labels[[7, 50, 3]])
    assert torch.equal(joined.labelled, fold.train)
    assert torch.equal(joined.valid, fold.valid)
    seen = list(epoch_batches(joined, Recipe(epochs=1, batch_size=2), batch=453, seed=0))
    assert len(seen) == 1


def test_a_stopped_fold_with_pseudo_labels_goes_on_to_the_same_bytes(tmp_path, data):
    runs = [
        with_tables(make_run(tmp_path / name, data, epochs=1), data, list(range(0, 200, 2)))
        for name in ("straight", "stopped")
    ]
    base = make_run(tmp_path / "base", data, epochs=1)
    straight = train(runs[0], data)
    stops = 0

    while 0 in runs[1].missing_folds():
        try:
            train(runs[1], data, Deadline.after(0))
        except BudgetError:
            stops += 1

    assert stops > 1
    assert (runs[1].fold(0) / "weights.safetensors").read_bytes() == straight != train(base, data)
    weights = [load_file(run.fold(0) / "weights.safetensors") for run in (runs[0], base)]
    assert torch.equal(weights[0]["mean"], weights[1]["mean"]), "of the training images alone"
    assert torch.equal(weights[0]["scale"], weights[1]["scale"])


def test_each_folds_pseudo_labels_have_a_hash_of_their_own(tmp_path, data):
    run = with_tables(make_run(tmp_path, data), data, [1, 2])
    (tmp_path / "pseudo1.csv").write_text("id,label,probability\n")
    run.record["pseudo"]["sha256"].append(sha256_of(tmp_path / "pseudo1.csv"))

    assert [pseudo_hash(run, number) for number in (0, 1)] == run.record["pseudo"]["sha256"]


def test_changed_or_missing_pseudo_labels_are_refused(tmp_path, data):
    run = with_tables(make_run(tmp_path, data), data, [1, 2])
    path = tmp_path / "pseudo0.csv"
    path.write_text(path.read_text().replace("t2", "t9"))

    with pytest.raises(DataError, match=r"pseudo0\.csv is missing or was changed since the run"):
        train(run, data)
    path.unlink()
    with pytest.raises(DataError, match="is missing or was changed"):
        train(run, data)
