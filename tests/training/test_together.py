"""How many folds share a GPU is decided by rule; test_recording shows on one that it works."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pipeline.training.execution import Execution
from pipeline.training.recipes import quick
from pipeline.training.together import folds_at_once
from tests.training.runs import FP32

IMAGES = torch.Size((9600, 32, 32, 3))
CUDA = Execution(device="cuda", precision="bf16", graphs=True)


@pytest.mark.parametrize(
    ("execution", "model", "words"),
    [
        (FP32, nn.Linear(1, 1), "a cpu is filled by one"),
        (replace(CUDA, graphs=False), nn.Linear(1, 1), "the host is busy"),
        (replace(CUDA, compile=True), nn.Linear(1, 1), "not made for threads"),
        (CUDA, nn.Sequential(nn.Dropout(0.2)), "0 draws from the device's random stream"),
    ],
)
def test_folds_train_in_turn_where_together_is_no_use(execution, model, words):
    at_once, reason = folds_at_once(execution, model, quick(), IMAGES, 5, asked=4)

    assert at_once == 1
    assert words in reason


@pytest.mark.parametrize(
    ("processors", "side", "at_once"), [(132, 32, 5), (40, 32, 1), (132, 224, 1)]
)
def test_a_large_gpu_takes_several_folds_of_small_images(monkeypatch, processors, side, at_once):
    class Properties:
        multi_processor_count = processors

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    images = torch.Size((9600, side, side, 3))
    model = nn.Sequential(nn.Dropout(0.0), nn.Linear(1, 1))

    assert folds_at_once(CUDA, model, quick(), images, 5)[0] == at_once
    assert folds_at_once(CUDA, model, quick(), images, 3)[0] == min(3, at_once)
    assert folds_at_once(CUDA, model, quick(), images, 5, asked=2) == (2, "asked for")
