"""bench: the training engine beside a plain published-style loop, and how its cost grows."""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
from tqdm import tqdm

from pipeline.artifacts import write_json, write_whole
from pipeline.competition import load_competition
from pipeline.data.cache import load_cache
from pipeline.data.images import probe_image
from pipeline.data.layouts import read_layout
from pipeline.errors import ConfigError
from pipeline.profiling.clock import Clock
from pipeline.profiling.roofline import measure_roofline
from pipeline.stages.bench_engine import Subject
from pipeline.stages.bench_plot import plot_bench
from pipeline.stages.console import say_table
from pipeline.stages.download import download
from pipeline.stages.preprocess import describe, preprocess
from pipeline.stages.provenance import provenance
from pipeline.stages.settings import Settings, changes, check_settings
from pipeline.training.execution import choose_execution

YARDSTICK = Path(__file__).parents[2] / "tests/benchmarks/yardstick.py"
SCALES = (1, 2, 4, 8)
FOLDS = 3
TARGETS = (0.8417, 0.88)  # the published leaderboard score, and the goal of `quick`
_PIXELS_OF_A_LONG_RUN = 1e12  # a benchmark is of the engine as it runs when compiling pays


def bench(settings: Settings, *, rounds: int, as_json: bool, growth: bool = True) -> None:
    """Time epochs of the engine and of the yardstick in turn, and how the engine's cost grows.

    Without `growth` it times the epochs alone, which is what large images leave time for.

    Writes submissions/studies/bench/<network>-<conv>[-<SIZE>px]-<device>.json, beside it a plot
    where growth was measured, and prints the figures; with `as_json` the one object alone.

    Raises:
        ConfigError: the competition's images are not files, do not become square ones, or have
            several labels.
    """
    if rounds < 1:
        raise ConfigError(f"rounds={rounds}: at least 1")
    check_settings(settings)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells of every memory recording
    with redirect_stdout(sys.stderr):  # what is printed is the figures alone
        subject, yardstick = _prepare(settings)
    total = 4 + (2 + len(SCALES)) * rounds + FOLDS if growth else 2 + 2 * rounds
    with tqdm(total=total, desc="bench", file=sys.stderr) as bar:
        found = _measure(subject, yardstick, rounds, bar.update, growth)
    size = f"-{settings.size}px" if settings.size else ""
    name = f"{settings.model}-{settings.conv}{size}-{subject.execution.device}".replace("/", "-")
    path = settings.workspace.root / "submissions/studies/bench" / f"{name}.json"
    write_json(path, found)
    picture = path.with_suffix(".png")
    if growth:
        write_whole(picture, plot_bench(found))
    else:
        picture.unlink(missing_ok=True)  # it is of figures that are replaced
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print(found, path)


def _measure(
    subject: Subject,
    yardstick: Any,
    rounds: int,
    done: Callable[[], object],
    with_growth: bool,
) -> dict[str, Any]:
    """Everything that is measured, in the order in which it does not disturb itself."""
    engine = subject.start()
    warm_up = engine.epoch()
    resident_before = _resident_megabytes()
    done()
    yardstick.epoch()  # its first one starts the processes that decode
    done()
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(yardstick.epoch()[0])
        done()
        ours.append(engine.epoch())
        done()
    found: dict[str, Any] = {"resident_mb": [resident_before, _resident_megabytes()]}
    counts = engine.kernels_and_launches()  # ahead of what takes a recorded step's gradients away
    if counts is not None:
        found["kernels_per_step"], found["launches_per_step"] = counts
    found["peak_mb"] = round(engine.peak_bytes() / 1e6, 1)
    return {
        **_figures(subject, ours, theirs),
        "warm_up_seconds": round(warm_up, 2),
        **found,
        **(_growth(subject, rounds, done) if with_growth else {}),
        **_origin(subject),
    }


def _growth(subject: Subject, rounds: int, done: Callable[[], object]) -> dict[str, Any]:
    """How the cost of an epoch grows with folds and data, and what accuracy takes."""
    growth: dict[str, Any] = {}
    growth["fold_seconds"] = _each(lambda _: subject.start().epoch(), range(FOLDS), done)
    by_size = [
        _each(lambda times: subject.start(times).epoch(), SCALES, done) for _ in range(rounds)
    ]
    growth["epoch_seconds_by_data_size"] = {
        str(times): statistics.median(seconds)
        for times, seconds in zip(SCALES, zip(*by_size, strict=True), strict=True)
    }
    growth["seconds_to_accuracy"] = subject.seconds_to(TARGETS)
    done()
    rates = measure_roofline(Clock(subject.execution.device), subject.execution.precision)
    done()
    return {**growth, "matrix_tflops": round(2 * rates.macs_per_second / 1e12, 3)}


def _each(
    measure: Callable[[int], float], values: Iterable[int], done: Callable[[], object]
) -> list[float]:
    seconds = []
    for value in values:
        seconds.append(round(measure(value), 3))
        done()
    return seconds


def _resident_megabytes() -> float:
    return round(int(psutil.Process().memory_info().rss) / 1e6, 1)


def _prepare(settings: Settings) -> tuple[Subject, Any]:
    workspace = settings.workspace
    folder = workspace.competition(settings.competition)
    definition = load_competition(settings.competition, folder).with_size(settings.size)
    download(workspace, settings.competition, settings.host)
    cache = preprocess(workspace, definition)
    data = load_cache(cache)
    raw = read_layout(workspace.raw(settings.competition), definition).train
    height, width, channels = data.train.images.shape[1:]
    if not isinstance(raw.images, list) or height != width:
        raise ConfigError(
            f"{settings.competition} has no image files that become square, which the yardstick "
            "reads; choose SIZE, or COMPETITION=dog-vs-cat-vs-bird"
        )
    if data.multi_label:
        raise ConfigError(
            f"{settings.competition} has images with several labels, and the yardstick learns one "
            "each; choose another, such as COMPETITION=dog-vs-cat-vs-bird"
        )
    asked = changes(settings)[1]
    execution = choose_execution(pixels=_PIXELS_OF_A_LONG_RUN, asked=asked)
    labels = data.train.known_labels()
    subject = Subject(
        settings,
        execution,
        data.train.images,
        labels,
        len(data.classes),
        describe(workspace, definition, cache).data.mirror is not False,
    ).for_network(asked)
    yardstick = _yardstick_module().Yardstick(
        subject.network(),
        raw.images,
        labels.tolist(),
        side=height,
        channels=channels,
        batch=subject.recipe.batch_for(len(labels)),
        device=subject.execution.device,
        resized=any(_size(file) != (height, width) for file in raw.images),
    )
    return subject, yardstick


def _size(file: Path) -> tuple[int, int]:
    probe = probe_image(file)
    return probe.height, probe.width


def _yardstick_module() -> ModuleType:
    """It lives with the benchmarks, because no run needs it."""
    if not YARDSTICK.exists():
        raise ConfigError(f"{YARDSTICK} is missing; run this in a checkout")
    sys.path.insert(0, str(YARDSTICK.parent))  # the DataLoader's processes import it, too
    return importlib.import_module(YARDSTICK.stem)


def _figures(subject: Subject, ours: list[float], theirs: list[float]) -> dict[str, Any]:
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
        "image": list(subject.images.shape[1:]),
    }


def _origin(subject: Subject) -> dict[str, Any]:
    return {
        "device": subject.execution.device,
        "execution": {name: value for name, value, _ in subject.execution.table()},
        "model": subject.settings.model,
        "conv": subject.settings.conv,
        "recipe": subject.settings.recipe,
        **provenance(),
    }


def _print(found: dict[str, Any], path: Path) -> None:
    low, high = found["spread"]
    before, after = found["resident_mb"]
    rows = [
        ("epoch", f"{found['epoch_seconds']} s", f"{found['images_per_second']} images/s"),
        ("yardstick", f"{found['yardstick_epoch_seconds']} s", "plain published-style loop"),
        ("ratio", str(found["ratio"]), f"{low} to {high}, n = {found['n']}"),
        ("warm-up", f"{found['warm_up_seconds']} s", "first epoch, compiling included"),
        ("peak of a step", f"{found['peak_mb']} MB", "what tensors hold, images apart"),
        ("process", f"{after} MB", f"{before} MB after the first epoch"),
    ]
    if "kernels_per_step" in found:
        kernels, launches = found["kernels_per_step"], found["launches_per_step"]
        rows.append(("kernels", f"{kernels} a step", f"by {launches} launches of the host"))
    rows += _growth_rows(found) if "fold_seconds" in found else []
    say_table("bench", rows)
    print(f"written: {path}")


def _growth_rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    folds = ", ".join(f"{seconds:.1f}" for seconds in found["fold_seconds"])
    rows = [
        ("folds in turn", f"{folds} s", "first epochs"),
        ("matrix peak", f"{found['matrix_tflops']} TFLOP/s", found["execution"]["precision"]),
    ]
    for times, seconds in found["epoch_seconds_by_data_size"].items():
        ratio = seconds / found["epoch_seconds_by_data_size"]["1"]
        rows.append((f"{times} x data", f"{seconds} s", f"{ratio:.2f} times"))
    for target, reached in found["seconds_to_accuracy"].items():
        text = "not reached" if reached is None else f"{reached:.0f} s"
        rows.append((f"to {target}", text, "validation accuracy of one fold of five"))
    return rows
