"""Prediction computes as the run decided, from what was trained, in another process, too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.artifacts import write_manifest
from pipeline.competition import Competition
from pipeline.errors import DataError
from pipeline.stages.predict import predict, predictions_by_fold
from pipeline.stages.train import train_runs
from pipeline.training.deadline import Deadline
from pipeline.training.fold import run_fold
from pipeline.training.launch import train_on_devices
from pipeline.training.predict import predict_probabilities
from pipeline.training.run import Run
from pipeline.training.tables import read_probabilities
from tests.training.runs import FP32, digit_images, make_run, train, write_cache


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_the_threads_of_the_run_predict(tmp_path: Path) -> None:
    data = digit_images()
    run = make_run(tmp_path, data, epochs=1, threads=2)
    run_fold(run, data, 0, torch.device("cpu"), lambda metrics: None, Deadline())
    assert torch.get_num_threads() == 1

    probabilities = next(predictions_by_fold(run, data))

    assert torch.get_num_threads() == 2
    assert probabilities.shape == (600, 10)


def with_record(run: Run, **changes: Any) -> Run:
    (run.folder / "run.json").write_text(json.dumps({**run.record, **changes}))
    return Run.open(run.folder)


def damage(path: Path) -> None:
    """Change the file's last byte."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_predictions_are_means_over_folds_of_every_view_of_undamaged_files(tmp_path: Path) -> None:
    data = digit_images()
    cache = write_cache(data, tmp_path / "cache")
    write_manifest(cache)
    run = with_record(make_run(tmp_path / "run", data, epochs=1, folds=2), mirror=True)
    for number in run.folds:
        train(run, data, number)

    def expected(number: int, rows: torch.Tensor, multi_label: bool) -> torch.Tensor:
        model, images = run.network.load(run.fold(number)), data.test.images
        views = {"max_shift": 1, "multi_label": multi_label}
        return predict_probabilities(model, images, rows, True, FP32, **views)

    for multi_label in (False, True):
        run = with_record(run, multi_label=multi_label)
        table = read_probabilities(predict(run.folder, cache))
        folds = torch.stack([expected(n, torch.arange(600), multi_label) for n in run.folds])
        assert list(table.index) == data.test.ids
        torch.testing.assert_close(torch.tensor(table.to_numpy()), folds.double().mean(0))
        (run.folder / "test.csv").unlink()
    out_of_fold = read_probabilities(run.fold(1) / "oof.csv")
    rows = torch.arange(1, 600, 2)
    assert list(out_of_fold.index) == [data.train.ids[row] for row in rows]
    torch.testing.assert_close(
        torch.tensor(out_of_fold.to_numpy()), expected(1, rows, False).double()
    )
    for path in (run.fold(1) / "weights.safetensors", cache / "test.safetensors"):
        damage(path)
        with pytest.raises(DataError, match=rf"1 files differ from the .* first '{path.name}'"):
            predict(run.folder, cache)
        damage(path)  # back again


def test_what_a_fold_predicted_is_gone_when_the_fold_is_trained_anew(tmp_path: Path) -> None:
    """On another machine, say: there its weights are others."""
    data = digit_images()
    cache = write_cache(data, tmp_path / "cache")
    write_manifest(cache)
    run = make_run(tmp_path / "run", data, epochs=1, folds=2)
    for number in run.folds:
        train(run, data, number)
    before = predict(run.folder, cache).read_bytes()
    shutil.rmtree(run.fold(1))

    other = with_record(run, seed=1)
    train_runs(
        [other], Competition(slug="x", metric="accuracy"), cache, Deadline(), train_on_devices
    )

    assert predict(run.folder, cache).read_bytes() != before
