"""The benchmark of the training engine, on a tiny competition: what it prints, not how fast."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pandas as pd
import pytest
import torch
from torch import nn

from pipeline.artifacts import write_whole
from pipeline.convs import KernelConv
from pipeline.stages.bench import _measure, _prepare
from pipeline.stages.bench_engine import Subject
from pipeline.stages.settings import Settings
from pipeline.training.execution import Execution
from tests.stages.commands import run_here, run_pipeline, write_digit_images

OPTIONS = ("--competition", "mine", "--set", "compile=off", "--model", "nntrain-cnn")


def test_the_engine_is_timed_beside_the_yardstick(tmp_path: Path) -> None:
    write_digit_images(tmp_path / "data/mine/raw")

    outcome = run_pipeline(tmp_path, "bench", *OPTIONS, "--rounds", "2", "--json")

    assert outcome.code == 0, outcome.errors
    found = json.loads(outcome.output)
    assert found["epoch_seconds"] > 0
    assert found["yardstick_epoch_seconds"] > 0
    assert found["spread"][0] <= found["ratio"] <= found["spread"][1]
    assert (found["n"], found["device"], found["images"]) == (2, "cpu", 600)
    assert list(found["epoch_seconds_by_data_size"]) == ["1", "2", "4", "8"]
    (written,) = (tmp_path / "submissions/studies/bench").glob("*.json")
    assert json.loads(written.read_text()) == found
    assert written.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_a_library_model_on_larger_images_without_growth(tmp_path: Path) -> None:
    write_digit_images(tmp_path / "data/mine/raw", train=200)
    options = ("--competition", "mine", "--set", "compile=off batch_size=16")
    options += ("--model", "test_resnet.r160_in1k", "--size", "32", "--no-growth")
    earlier = "submissions/studies/bench/test_resnet.r160_in1k-subkernel-32px-cpu.png"
    write_whole(tmp_path / earlier, b"of figures that are replaced")

    outcome = run_pipeline(tmp_path, "bench", *options, "--rounds", "1", "--json")

    assert outcome.code == 0, outcome.errors
    found = json.loads(outcome.output)
    assert (found["n"], found["image"]) == (1, [32, 32, 1])
    assert found["yardstick_epoch_seconds"] > 0
    assert "epoch_seconds_by_data_size" not in found
    (written,) = (tmp_path / "submissions/studies/bench").iterdir()
    assert written.name == "test_resnet.r160_in1k-subkernel-32px-cpu.json"


def test_images_are_mirrored_where_a_run_mirrors_them(tmp_path: Path) -> None:
    """Not where every class is a digit, which nobody wrote down."""
    write_digit_images(tmp_path / "data/mine/raw", train=100)
    settings = Settings(competition="mine", model="nntrain-cnn", set="compile=off", root=tmp_path)

    subject, _ = _prepare(settings)

    assert not subject.mirror


def test_what_the_yardstick_cannot_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    outcome = run_here(tmp_path, "bench", "--competition", "digits", "--host", "local")

    assert outcome.code == 2
    assert "digits has no image files that become square" in outcome.errors
    assert os.environ["KINETO_LOG_LEVEL"] == "99"  # else the profiler tells of errors


def subject_of(settings: Settings) -> Subject:
    """64 black images of 8 x 8 pixels, of two classes, on the CPU."""
    return Subject(
        settings,
        Execution(device="cpu", precision="fp32"),
        torch.zeros(64, 8, 8, 1, dtype=torch.uint8),
        torch.arange(64) % 2,
        classes=2,
        mirror=False,
    )


def test_more_epochs_are_timed_than_the_schedule_is_for() -> None:
    settings = Settings(model="nntrain-cnn", set="epochs=1 schedule=one-cycle batch_size=32")
    engine = subject_of(settings).start()

    assert all(engine.epoch() > 0 for _ in range(3))


def test_dropout_is_the_recipes() -> None:
    parts = subject_of(Settings(recipe="published", set="dropout=0.3")).network().modules()

    assert [part.p for part in parts if isinstance(part, nn.Dropout)] == [0.3]


@pytest.mark.parametrize(
    ("conv", "execution"),
    [("channel-selection", "factored"), ("channel-selection", "linear"), ("subkernel", "folded")],
)
def test_an_execution_that_was_asked_for_is_the_one_that_is_timed(
    conv: str, execution: str
) -> None:
    subject = Subject(
        Settings(model="mnist-net", conv=conv, execution=execution, set="batch_size=8"),
        Execution(device="cpu", precision="fp32"),
        torch.zeros(16, 28, 28, 1, dtype=torch.uint8),
        torch.arange(16) % 2,
        classes=2,
        mirror=False,
    ).for_network({"precision": "fp32"})

    model = subject.start().state.model

    assert set(subject.execution.convs.values()) == {execution}
    assert {m.execution for m in model.modules() if isinstance(m, KernelConv)} == {execution}


def test_the_first_epoch_of_neither_counts() -> None:
    """The engine compiles in it, and the yardstick starts its processes."""
    ours, theirs = iter([9.0, 1.0]), iter([(9.0, 0.0), (2.0, 0.0)])
    subject, yardstick = stand_in(epoch=lambda: next(ours)), SimpleNamespace(epoch=theirs.__next__)

    found = _measure(subject, yardstick, 1, lambda: None, with_growth=False)

    assert (found["warm_up_seconds"], found["ratio"]) == (9.0, 2.0)


def test_launches_are_counted_while_a_recorded_step_has_its_gradients() -> None:
    """A replay with a gradient scaler looks at them; the measured memory's steps drop them."""
    done: list[str] = []
    subject = stand_in(
        peak_bytes=lambda: done.append("memory") or 1,
        kernels_and_launches=lambda: done.append("launches"),
    )
    yardstick = SimpleNamespace(epoch=lambda: (2.0, 0.0))

    found = _measure(subject, yardstick, 1, lambda: None, with_growth=False)

    assert done == ["launches", "memory"]
    assert found["ratio"] == 2.0


def stand_in(**of_engine: Callable[[], object]) -> Subject:
    """A subject whose engine does what is given; else an epoch takes a second."""
    nothing = {"epoch": lambda: 1.0, "peak_bytes": lambda: 1, "kernels_and_launches": lambda: None}
    subject = SimpleNamespace(
        start=lambda: SimpleNamespace(**{**nothing, **of_engine}),
        images=torch.zeros(1, 8, 8, 1),
        execution=Execution(device="cpu", precision="fp32"),
        settings=Settings(),
    )
    return cast(Subject, subject)


def test_images_with_several_labels_are_refused(tmp_path: Path) -> None:
    raw = tmp_path / "data/mine/raw"
    write_digit_images(raw, train=100)
    for name in ("train.csv", "sample_submission.csv"):
        table = pd.read_csv(raw / name, dtype={"id": str})
        table["label"] = ["even few" if row % 2 else "few" for row in range(len(table))]
        table.to_csv(raw / name, index=False)
    (raw.parent / "competition.toml").write_text(
        'metric = "macro_f1"\nmulti_label = true\n[data]\nlabel_separator = " "\n'
    )

    outcome = run_here(tmp_path, "bench", *OPTIONS)

    assert outcome.code == 2
    assert "mine has images with several labels" in outcome.errors
