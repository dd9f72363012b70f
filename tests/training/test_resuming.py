"""A fold that was stopped or killed goes on, and from its own checkpoint alone."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.artifacts import verify_manifest
from pipeline.errors import BudgetError, DataError, StorageError
from pipeline.stages.train import _progress
from pipeline.training import group
from pipeline.training.deadline import Deadline
from pipeline.training.fold import run_fold
from pipeline.training.folds import write_folds
from pipeline.training.recipes import Recipe
from pipeline.training.run import CHECKPOINT, WEIGHTS
from pipeline.training.start import start_training
from tests.training.runs import CPU, FP32, NETWORK, make_run, train


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"frozen": 0.5},
        {"layer_decay": 0.7},
        {"ema": 0.9, "keep": "best", "frozen": 0.5, "layer_decay": 0.7},
    ],
    ids=str,
)
def test_a_fold_stopped_after_every_step_goes_on_to_the_same_bytes(tmp_path, digits, choices):
    straight = make_run(tmp_path / "straight", digits, **choices)
    stopped = make_run(tmp_path / "straight-again", digits, **choices)
    epochs = train(straight, digits)
    stops, resumed = [], []

    while stopped.missing_folds() == [0, 1, 2, 3]:
        try:
            resumed += train(stopped, digits, deadline=Deadline.after(0))
        except BudgetError as error:
            stops.append(str(error))

    assert len(stops) > len(epochs)
    assert "the time budget ended while training; rerun to continue" in stops[0]
    for name in ("weights.safetensors", "oof.csv"):
        assert (stopped.fold(0) / name).read_bytes() == (straight.fold(0) / name).read_bytes()
    history = (stopped.fold(0) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["train_loss"] for line in history] == [e.train_loss for e in epochs]


@pytest.mark.parametrize(
    "moment",
    [
        "pipeline.training.fold._write_metrics",
        "pipeline.training.fold.save",
        "pipeline.artifacts.write_manifest",
        "pipeline.artifacts.replace_folder",
    ],
)
def test_a_kill_behind_the_last_epoch_costs_none(tmp_path, digits, monkeypatch, moment):
    class Kill(BaseException):
        pass

    def kill(*_, **__):
        raise Kill

    straight = make_run(tmp_path / "straight", digits, epochs=1)
    killed = make_run(tmp_path / "killed", digits, epochs=1)
    train(straight, digits)
    with monkeypatch.context() as patch:
        patch.setattr(moment, kill)
        with pytest.raises(Kill):
            train(killed, digits)

    assert train(killed, digits) == []

    left, expected = ({path.name for path in run.fold(0).iterdir()} for run in (killed, straight))
    assert left == expected
    assert len((killed.fold(0) / "metrics.jsonl").read_text().splitlines()) == 1
    verify_manifest(killed.fold(0))
    for name in ("weights.safetensors", "oof.csv"):
        assert (killed.fold(0) / name).read_bytes() == (straight.fold(0) / name).read_bytes()


def test_a_disk_that_fills_behind_the_last_epoch_is_told_and_costs_none(
    tmp_path, digits, monkeypatch
):
    run = make_run(tmp_path, digits, epochs=1)

    def fill(source, target):
        if target.name == WEIGHTS:
            raise OSError(errno.ENOSPC, "No space left on device")
        source.rename(target)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.artifacts.os.replace", fill)
        with pytest.raises(StorageError, match=rf"disk full while writing .*{WEIGHTS}"):
            train(run, digits)

    assert train(run, digits) == []
    verify_manifest(run.fold(0))


def test_the_bar_of_a_fold_that_goes_on_begins_behind_the_epochs_that_it_has(tmp_path, digits):
    run, deadline = make_run(tmp_path, digits, epochs=3, folds=2), Deadline()
    with pytest.raises(BudgetError):
        run_fold(run, digits, 0, CPU, lambda _: deadline.set_off(), deadline)

    with _progress([run]) as bar:
        epochs = train(run, digits)

        assert bar.initial == 1
        assert bar.initial + len(epochs) + 3 == bar.total == 6


def test_a_checkpoint_of_another_run_is_refused(tmp_path, digits):
    run, other = (make_run(tmp_path / name, digits, name=name) for name in ("own", "other"))
    for each in (run, other):
        with pytest.raises(BudgetError):
            train(each, digits, deadline=Deadline.after(0))
    checkpoints = [each.folder / "fold0.unfinished" / CHECKPOINT for each in (run, other)]
    checkpoints[0].write_bytes(checkpoints[1].read_bytes())

    with pytest.raises(DataError, match=r"was made for .*'other'.*delete it and rerun"):
        train(run, digits)


@pytest.mark.parametrize("of", ["fold map", "fold", "version"])
def test_a_checkpoint_of_another_fold_or_version_is_refused(tmp_path, digits, of):
    run = make_run(tmp_path, digits)
    with pytest.raises(BudgetError):
        train(run, digits, deadline=Deadline.after(0))
    number = 0
    if of == "fold map":
        write_folds(tmp_path / "folds.csv", digits.train.ids, np.arange(600) // 150)
    elif of == "fold":
        number = 1
        (tmp_path / "fold0.unfinished").rename(tmp_path / "fold1.unfinished")
    else:
        run.record["engine_version"] = "another"

    with pytest.raises(DataError, match=r"was made for .*delete it and rerun"):
        train(run, digits, number)


def test_an_epochs_seconds_are_those_of_all_its_parts(tmp_path, digits):
    run = make_run(tmp_path, digits, epochs=1)
    with pytest.raises(BudgetError):
        train(run, digits, deadline=Deadline.after(0))
    path = tmp_path / "fold0.unfinished" / CHECKPOINT
    saved = torch.load(path, weights_only=True)
    assert saved["seconds"] > 0
    torch.save({**saved, "seconds": 1000.0}, path)

    (epoch,) = train(run, digits)

    assert 1000 < epoch.seconds < 1900


def test_a_resumed_fold_keeps_to_the_images_at_once_that_fit(tmp_path, fold_data):
    def begin():
        model = NETWORK.build(torch.zeros(1), torch.ones(1))
        return start_training(model, fold_data, Recipe(epochs=1, batch_size=32), FP32)

    halved, resumed, resumed_from_old = begin(), begin(), begin()
    halved.micro_batch = 8
    halved.save(tmp_path / CHECKPOINT)

    resumed.resume(tmp_path / CHECKPOINT)
    saved = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    del saved["micro_batch"]  # as checkpoints were that knew neither this nor processes
    (saved["random"],) = saved["random"]
    torch.save(saved, tmp_path / CHECKPOINT)
    resumed_from_old.resume(tmp_path / CHECKPOINT)

    assert (resumed.batch, resumed.micro_batch) == (32, 8)
    assert resumed_from_old.micro_batch == 32


def test_a_checkpoint_has_the_losses_of_all_processes_that_shared_the_batch(
    tmp_path, fold_data, monkeypatch
):
    """A process goes on with the mean: whichever it is, and however many there are now."""
    model = NETWORK.build(torch.zeros(1), torch.ones(1))
    saved, resumed = (
        start_training(model, fold_data, Recipe(epochs=1, batch_size=32), FP32) for _ in range(2)
    )
    saved.loss_sum += 2.0
    with monkeypatch.context() as patch:
        patch.setattr(group, "size", lambda: 2)
        patch.setattr(group, "gathered", lambda value: [value, value])
        patch.setattr(group, "total", lambda value: value + 4.0)  # with that of the other process
        saved.save(tmp_path / CHECKPOINT)

    resumed.resume(tmp_path / CHECKPOINT)

    assert resumed.loss_sum.item() == 3.0


@pytest.mark.parametrize(("before", "now"), [("fp32", "fp16"), ("fp16", "fp32")])
def test_a_fold_goes_on_where_another_number_format_was_decided_on(
    tmp_path, fold_data, before, now
):
    """As on another machine: a gradient scaler then begins, or is not needed any more."""
    model = NETWORK.build(torch.zeros(1), torch.ones(1))
    saved, resumed = (
        start_training(model, fold_data, Recipe(epochs=1, batch_size=32), each)
        for each in (replace(FP32, precision=before), replace(FP32, precision=now))
    )
    saved.step = 3
    saved.save(tmp_path / CHECKPOINT)

    resumed.resume(tmp_path / CHECKPOINT)

    assert resumed.step == 3
    assert resumed.scaler.is_enabled() == (now == "fp16")


def one_byte_changed(data):
    """In the middle, where tensors are."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:1000], lambda data: b"junk", one_byte_changed]
)
def test_a_damaged_checkpoint_is_named(tmp_path, digits, damage):
    run = make_run(tmp_path, digits)
    with pytest.raises(BudgetError):
        train(run, digits, deadline=Deadline.after(0))
    checkpoint = tmp_path / "fold0.unfinished" / CHECKPOINT
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))

    with pytest.raises(DataError, match="is not a checkpoint"):
        train(run, digits)


def test_a_checkpoint_runs_no_code(tmp_path, digits):
    class Attack:
        def __reduce__(self):
            return (Path(tmp_path / "attacked").touch, ())

    run = make_run(tmp_path, digits)
    (tmp_path / "fold0.unfinished").mkdir()
    torch.save({"parts": [Attack()]}, tmp_path / "fold0.unfinished" / CHECKPOINT)

    with pytest.raises(DataError, match="is not a checkpoint"):
        train(run, digits)
    assert not (tmp_path / "attacked").exists()
