"""Executions are timed with as many images as training sends at once, and as fit in the memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.convs import choose_executions
from pipeline.data.cache import Part, TensorCache
from pipeline.errors import ConfigError
from pipeline.stages import decisions
from pipeline.training.execution import Execution
from tests.training.runs import digit_images, make_run


@pytest.fixture(scope="module")
def data() -> TensorCache:
    """1,200 images: four folds train on 900, for which a batch is half of what it is for all."""
    digits = digit_images()
    images, labels = torch.cat([digits.train.images] * 2), digits.train.known_labels().repeat(2)
    part = Part(images=images, ids=[str(row) for row in range(1200)], labels=labels)
    return TensorCache(part, part, digits.classes)


class Memory:
    """Room for so many images at once; how many were tried is noted."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.tried: list[int] = []

    def choose(self, model: nn.Module, images: Tensor) -> dict[str, str]:
        self.tried.append(len(images))
        if len(images) > self.images:
            raise torch.OutOfMemoryError("made by the test")
        return choose_executions(model, images)


def decided(
    folder: Path, data: TensorCache, memory: Memory, monkeypatch: pytest.MonkeyPatch, **asked: str
) -> Execution:
    monkeypatch.setattr(decisions, "choose_executions", memory.choose)
    run = make_run(folder, digit_images())
    run.record["asked"] = {"device": "cpu", "precision": "fp32", "convolutions": "auto", **asked}
    return decisions.decide(run, data)


@pytest.mark.parametrize(
    ("asked", "room", "tried"),
    [
        ({}, 64, [32]),
        ({"micro_batch": "8"}, 64, [8]),
        ({"micro_batch": "48"}, 64, [32]),
        ({}, 8, [32, 16, 8]),
    ],
    ids=str,
)
def test_executions_are_timed_with_the_images_that_training_sends_at_once(
    tmp_path: Path,
    data: TensorCache,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, str],
    room: int,
    tried: list[int],
) -> None:
    memory = Memory(room)

    execution = decided(tmp_path, data, memory, monkeypatch, **asked)

    assert memory.tried == tried
    assert execution.convs


def test_one_image_too_many_for_the_memory_is_told(
    tmp_path: Path, data: TensorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(0)

    with pytest.raises(ConfigError, match="out of memory with 1 images of 8x8x1 at once; choose"):
        decided(tmp_path, data, memory, monkeypatch)
    assert memory.tried == [32, 16, 8, 4, 2, 1]


def test_an_execution_that_was_asked_for_is_told_as_such(
    tmp_path: Path, data: TensorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = decided(tmp_path, data, Memory(64), monkeypatch, convolutions="folded")

    assert execution.table()[-1] == ("convolutions", "folded", "asked for")
