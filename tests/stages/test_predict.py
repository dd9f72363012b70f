"""Prediction computes as the run decided, in a process that has not trained, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.stages.predict import predictions_by_fold
from pipeline.training.deadline import Deadline
from pipeline.training.fold import run_fold
from tests.training.runs import digit_images, make_run


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
