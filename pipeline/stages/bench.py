"""bench: the training engine beside a plain published-style loop, and how its cost grows."""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.artifacts import write_json
from pipeline.competition import load_competition
from pipeline.data.cache import load_cache
from pipeline.data.layouts import read_layout
from pipeline.errors import ConfigError
from pipeline.models import ImageClassifier, make_model
from pipeline.models.classifier import channel_statistics
from pipeline.stages.console import say_table
from pipeline.stages.download import download
from pipeline.stages.preprocess import preprocess
from pipeline.stages.provenance import provenance
from pipeline.stages.settings import Settings, changes
from pipeline.training.batches import FoldData
from pipeline.training.deadline import Deadline
from pipeline.training.execution import Execution, choose_execution
from pipeline.training.loop import train_epoch
from pipeline.training.recipes import Recipe, make_recipe
from pipeline.training.state import TrainingState, start_training

YARDSTICK = Path(__file__).parents[2] / "tests/benchmarks/yardstick.py"
SCALES = (1, 2, 4, 8)
_PIXELS_OF_A_LONG_RUN = 1e12  # a benchmark is of the engine as it runs when compiling pays


@dataclass(frozen=True, slots=True)
class Subject:
    """What is timed: a network in training on a competition's images."""

    settings: Settings
    execution: Execution
    images: Tensor
    labels: Tensor
    classes: int

    def start(self, times: int = 1) -> Engine:
        """The engine at its first step, on the images repeated so often."""
        data = FoldData(
            images=self.images.repeat(times, 1, 1, 1).to(self.execution.device),
            labels=self.labels.repeat(times).to(self.execution.device),
            train=torch.arange(times * len(self.images), device=self.execution.device),
            valid=torch.arange(0, device=self.execution.device),
            mirror=True,
        )
        recipe = make_recipe(self.settings.recipe, changes(self.settings)[0])
        model = ImageClassifier(self.network(), *channel_statistics(self.images))
        state = start_training(model.to(data.labels.device), data, recipe, self.execution)
        return Engine(state, data, recipe)

    def network(self) -> torch.nn.Module:
        """A fresh network."""
        channels = self.images.shape[-1]
        return make_model(self.settings.model, self.settings.conv, channels, self.classes, 0.0)


@dataclass(slots=True)
class Engine:
    """The training engine, epoch by epoch at full image size."""

    state: TrainingState
    data: FoldData
    recipe: Recipe

    def epoch(self) -> float:
        """Seconds of one pass over all images, without validation."""
        start = time.perf_counter()
        self.state.step = 0
        train_epoch(self.state, self.data, self.recipe, self.data.side, 0, Deadline())
        self.state.loss_sum.item()  # the device has finished when its result is here
        return time.perf_counter() - start


def bench(settings: Settings, *, rounds: int, as_json: bool) -> None:
    """Time epochs of the engine and of the yardstick in turn, and the engine on more data.

    Writes submissions/studies/bench/<network>-<conv>-<device>.json and prints the figures; with
    `as_json` the one object alone.

    Raises:
        ConfigError: the competition's images are not files, or not square ones of one size.
    """
    if rounds < 1:
        raise ConfigError(f"rounds={rounds}: at least 1")
    with redirect_stdout(sys.stderr):  # what is printed is the figures alone
        subject, yardstick = _prepare(settings)
    engine = subject.start()
    total = 1 + 2 * rounds + len(SCALES)
    with tqdm(total=total, desc="bench", unit="epoch", file=sys.stderr) as bar:
        warm_up = engine.epoch()
        bar.update()
        ours, theirs = [], []
        for _ in range(rounds):
            theirs.append(yardstick.epoch()[0])
            ours.append(engine.epoch())
            bar.update(2)
        growth = {}
        for times in SCALES:
            larger = subject.start(times)
            growth[str(times)] = larger.epoch()
            bar.update()
    found = _figures(subject, warm_up, ours, theirs, growth)
    name = f"{settings.model}-{settings.conv}-{subject.execution.device}"
    path = settings.workspace.root / "submissions/studies/bench" / f"{name}.json"
    write_json(path, found)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print(found, path)


def _prepare(settings: Settings) -> tuple[Subject, Any]:
    workspace = settings.workspace
    folder = workspace.competition(settings.competition)
    definition = load_competition(settings.competition, folder)
    download(workspace, settings.competition, settings.host)
    data = load_cache(preprocess(workspace, definition))
    raw = read_layout(workspace.raw(settings.competition), definition).train
    height, width, channels = data.train.images.shape[1:]
    if not isinstance(raw.images, list) or height != width:
        raise ConfigError(
            f"{settings.competition} has no square image files of one size, which the yardstick "
            "reads; choose COMPETITION=dog-vs-cat-vs-bird"
        )
    of_recipe, asked = changes(settings)
    execution = choose_execution(pixels=_PIXELS_OF_A_LONG_RUN, asked=asked)
    execution.prepare_process()
    labels = data.train.known_labels()
    subject = Subject(settings, execution, data.train.images, labels, len(data.classes))
    recipe = make_recipe(settings.recipe, of_recipe)
    yardstick = _yardstick_module().Yardstick(
        subject.network(),
        raw.images,
        labels.tolist(),
        side=height,
        channels=channels,
        batch=recipe.batch_for(len(labels)),
        device=execution.device,
    )
    return subject, yardstick


def _yardstick_module() -> ModuleType:
    """It lives with the benchmarks, because no run needs it."""
    spec = importlib.util.spec_from_file_location("yardstick", YARDSTICK)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{YARDSTICK} is missing; run this in a checkout")
    module = importlib.util.module_from_spec(spec)
    sys.modules["yardstick"] = module  # the DataLoader's processes look it up by name
    spec.loader.exec_module(module)
    return module


def _figures(
    subject: Subject,
    warm_up: float,
    ours: list[float],
    theirs: list[float],
    growth: dict[str, float],
) -> dict[str, Any]:
    ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
    median = statistics.median(ours)
    images = len(subject.images)
    return {
        "epoch_seconds": round(median, 3),
        "yardstick_epoch_seconds": round(statistics.median(theirs), 3),
        "ratio": round(statistics.median(ratios), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "n": len(ours),
        "images_per_second": round(images / median, 1),
        "images": images,
        "warm_up_seconds": round(warm_up, 2),
        "epoch_seconds_by_data_size": {name: round(value, 3) for name, value in growth.items()},
        "device": subject.execution.device,
        "execution": {name: value for name, value, _ in subject.execution.table()},
        "model": subject.settings.model,
        "conv": subject.settings.conv,
        **provenance(),
    }


def _print(found: dict[str, Any], path: Path) -> None:
    sizes = found["epoch_seconds_by_data_size"]
    rows = [
        ("epoch", f"{found['epoch_seconds']} s", f"{found['images_per_second']} images/s"),
        ("yardstick", f"{found['yardstick_epoch_seconds']} s", "plain published-style loop"),
        (
            "ratio",
            str(found["ratio"]),
            f"{found['spread'][0]} to {found['spread'][1]}, n = {found['n']}",
        ),
        ("warm-up", f"{found['warm_up_seconds']} s", "first epoch, compiling included"),
        *((f"{name} x data", f"{value} s", "") for name, value in sizes.items()),
    ]
    say_table("bench", rows)
    print(f"written: {path}")
