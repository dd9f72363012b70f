"""The channel-selection study: its sizes, its smoke run, and what it says of its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.competition import Competition
from pipeline.convs import KernelConv
from pipeline.data.cache import Part, TensorCache
from pipeline.models.resnet14 import ResNet14
from pipeline.stages.settings import Settings
from pipeline.studies.cells import Bench
from pipeline.studies.channel_selection import STUDY, parting_epoch
from pipeline.studies.channel_selection_report import explain, plots
from pipeline.studies.epoch_timing import _engine
from pipeline.studies.overfitting import NETWORKS
from pipeline.studies.reproduce import reproduce
from pipeline.studies.store import read_results
from pipeline.studies.table import study_rows
from pipeline.training.deadline import Deadline
from tests.studies.results import result


def parameters(name: str) -> int:
    conv, widths = NETWORKS[name]
    return sum(each.numel() for each in ResNet14(conv, 3, 3, 0.0, widths).parameters())


def test_the_controls_have_the_other_nets_number_of_parameters() -> None:
    assert parameters("subkernel") == 174_787
    assert parameters("channel-selection") == 27_363
    assert parameters("subkernel-narrow") == pytest.approx(27_363, rel=0.01)
    assert parameters("channel-selection-wide") == pytest.approx(174_787, rel=0.01)


def test_a_smoke_run_measures_every_cell_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(host="local", root=tmp_path)

    reproduce(settings, "channel-selection", "smoke", ["0"])

    results = read_results(tmp_path, "channel-selection", "smoke")
    names = {(found["part"], found["variant"]) for found in results}
    assert names == {(cell.part, cell.variant) for cell in STUDY.cells("smoke", 0)}
    assert not (tmp_path / "submissions/RESULTS.md").exists()
    rows = {
        (row.part, row.variant, row.figure): row for row in study_rows(tmp_path, STUDY, "smoke")
    }
    assert rows["resnet18", "subkernel", "parameters_1000"].verdict == "met"
    assert rows["resnet18", "channel-selection-bias", "parameters_1000"].verdict == "met"
    for figure in ("private", "public", "cv_accuracy"):
        assert 0 < float(rows["published-recipe", "subkernel", figure].ours) <= 1
    assert set(plots(results)) == {
        "convolutions.png",
        "published-recipe.png",
        "overfitting.png",
    }

    before = {found.path: found.path.read_bytes() for found in results}
    capsys.readouterr()
    reproduce(settings, "channel-selection", "smoke", ["0"])
    assert "seed0" not in capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("name", "execution"),
    [
        ("subkernel", "folded"),
        ("channel-selection-linear", "linear"),
        ("channel-selection-factored", "factored"),
        ("channel-selection-folded", "folded"),
    ],
)
def test_epochs_are_timed_by_the_execution_that_they_are_called_after(
    name: str, execution: str, tmp_path: Path
) -> None:
    bench = Bench(
        settings=Settings(root=tmp_path), scale="smoke", deadline=Deadline(), scratch=tmp_path
    )
    part = Part(
        images=torch.zeros(32, 8, 8, 1, dtype=torch.uint8),
        ids=[str(row) for row in range(32)],
        labels=torch.arange(32) % 2,
    )
    data = TensorCache(part, part, ("a", "b"))

    engine = _engine(bench, Competition(slug="x"), data, name, compiled=False)

    convs = [m for m in engine.state.model.modules() if isinstance(m, KernelConv)]
    assert {conv.execution for conv in convs} == {execution}


def test_losses_part_where_the_train_loss_stays_below() -> None:
    train = [1.0 - 0.02 * epoch for epoch in range(40)]
    crossing = [0.8 - 0.01 * epoch for epoch in range(40)]
    assert parting_epoch({"train_loss": train, "valid_loss": crossing}) == pytest.approx(20, abs=2)
    assert parting_epoch({"train_loss": [1.0] * 8, "valid_loss": [2.0] * 8}) <= 2


def test_the_gap_is_told_with_its_error() -> None:
    results = [
        result("our-recipe", conv, seed, private=score + 0.001 * seed)
        for conv, score in (("subkernel", 0.90), ("channel-selection", 0.895))
        for seed in (0, 1, 2)
    ]
    assert "+0.50 points" in explain(results)
    assert "n = 3 seeds" in explain(results)
    assert "within chance" in explain(results)
    assert explain([]) == ""


def test_without_private_scores_there_is_no_gap() -> None:
    """As on kaggle.com until a deadline."""
    results = [
        result("our-recipe", conv, 0, public=0.9) for conv in ("subkernel", "channel-selection")
    ]
    assert explain(results) == ""


@pytest.mark.parametrize(
    ("losses", "cause", "answer"),
    [
        ((0.01, 0.4, 0.35, 0.02), "the number of parameters", "Not in this many epochs: 90.0 %"),
        ((0.01, 0.4, 0.02, 0.35), "the rank-1 kernel", "Not in this many epochs: 90.0 %"),
        ((0.01, 0.001, 0.02, 0.005), "the number of parameters", "Yes: 99.9 %"),
    ],
)
def test_kernel_and_size_are_told_apart(losses: tuple[float, ...], cause: str, answer: str) -> None:
    right = {0.4: 0.9, 0.001: 0.999}
    results = [
        result(
            "overfitting",
            name,
            0,
            final_train_loss=loss,
            final_train_accuracy=right.get(loss, 0.95),
        )
        for name, loss in zip(NETWORKS, losses, strict=True)
    ]

    assert f"More of it is {cause}" in explain(results)
    assert answer in explain(results)
