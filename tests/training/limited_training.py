"""Trains on a cache for some seconds and prints how fast: run in a process of limited memory."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from pipeline.data.cache import load_cache
from pipeline.models import ImageClassifier, make_model
from pipeline.training.batches import FoldData
from pipeline.training.deadline import Deadline
from pipeline.training.execution import choose_execution
from pipeline.training.loop import train_epoch
from pipeline.training.recipes import make_recipe
from pipeline.training.start import start_training

LEAST_STEPS = 3


def main(cache: Path, seconds: float) -> None:
    part = load_cache(cache).train
    rows = torch.arange(len(part.images))
    data = FoldData(
        images=part.images,
        labels=part.known_labels(),
        train=rows,
        valid=rows[:0],
        classes=2,
        mirror=True,
    )
    execution, recipe = choose_execution("cpu"), make_recipe("smoke")
    execution.prepare_process()
    net = make_model("resnet14", "subkernel", 3, 2, 0.0)
    model = ImageClassifier(net, torch.full((3,), 128.0), torch.full((3,), 64.0))
    state = start_training(model, data, recipe, execution)
    train_epoch(state, data, recipe, data.side, 0, Deadline.after(seconds / 4))
    before, start = state.step, time.perf_counter()
    while time.perf_counter() - start < seconds or state.step - before < LEAST_STEPS:
        if state.step * state.batch + state.batch > len(rows):  # small data ends before the time
            before, state.step = before - state.step, 0
        train_epoch(state, data, recipe, data.side, 0, Deadline.after(1.0))
    images = (state.step - before) * state.batch
    found = {
        "images_per_second": images / (time.perf_counter() - start),
        "cache_bytes": part.images.nbytes,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
