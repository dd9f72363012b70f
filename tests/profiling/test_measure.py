"""Interleaved rounds: what is compared, what a failure leaves, what the protocols hold."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.convs import make_conv
from pipeline.convs.native_conv import NativeConv
from pipeline.errors import ConfigError
from pipeline.profiling.measure import Measurement, compare
from pipeline.profiling.protocols import PUBLISHED_PASSES
from pipeline.profiling.roofline import Roofline
from pipeline.profiling.rows import make_rows
from pipeline.profiling.subjects import Candidate, Workload, candidates
from pipeline.profiling.workloads import make_workload
from pipeline.training.execution import Execution
from tests.benchmarks import convolutions

FP32 = Execution(device="cpu", precision="fp32")
ROOFLINE = Roofline(
    precision="fp32", macs_per_second=1e9, fp32_macs_per_second=1e9, bytes_per_second=1e9
)
STANDARD = Candidate(conv="subkernel", execution="folded")
SEPARABLE = Candidate(conv="separable", execution="factored")


def build(conv: str) -> nn.Module:
    return nn.Sequential(make_conv(conv, 4, 4, 3, padding=1, bias=True), nn.BatchNorm2d(4))


TINY = Workload(name="tiny", build=build, shape=(4, 8, 8), batch=2, input_gradient=True)


def test_the_standard_comes_first_even_where_it_was_not_asked_for() -> None:
    found = candidates(TINY, ["channel-selection"])

    assert found[0] == STANDARD
    assert {each.conv for each in found[1:]} == {"channel-selection"}
    assert [each.execution for each in found[1:]] == [
        "folded",
        "factored",
        "recomputed",
        "linear",
        "auto",
    ]


def test_each_is_compared_once_more_compiled() -> None:
    eager = candidates(TINY, ["separable"])
    both = candidates(TINY, ["separable"], compiled=True)

    assert both[: len(eager)] == eager
    assert [(each.conv, each.execution) for each in both[len(eager) :]] == [
        (each.conv, each.execution) for each in eager
    ]
    assert all(each.compiled for each in both[len(eager) :])


@pytest.mark.parametrize(
    ("conv", "executions"),
    [
        ("channel-selection-linear", ["linear"]),
        ("separable-norm", ["library"]),
        ("subkernel", ["folded", "shifted", "auto"]),
    ],
)
def test_an_execution_that_the_name_fixes_is_the_only_one(conv: str, executions: list[str]) -> None:
    found = candidates(TINY, [conv])

    assert [each.execution for each in found if each.conv == conv] == executions


def test_a_librarys_own_network_is_compared_as_it_is() -> None:
    found = candidates(make_workload("resnet18", 1, "cpu"), ["subkernel"])

    assert found == [Candidate(conv="subkernel", execution="library")]


def test_every_candidate_is_measured_in_every_round() -> None:
    calls: list[None] = []

    measured = compare(
        TINY, [STANDARD, SEPARABLE], FP32, rounds=3, progress=lambda: calls.append(None)
    )

    assert len(calls) == 2 * (1 + 3)
    for each in measured:
        assert {phase: len(seconds) for phase, seconds in each.seconds.items()} == {
            "forward": 3,
            "backward": 3,
            "optimizer": 3,
            "inference": 3,
        }
        assert all(second > 0 for seconds in each.seconds.values() for second in seconds)


def test_what_fails_keeps_its_reason_and_does_not_stop_the_others() -> None:
    def build_or_fail(conv: str) -> nn.Module:
        if conv == "separable":
            raise RuntimeError("out of memory\nmore lines")
        return build(conv)

    workload = Workload(name="tiny", build=build_or_fail, shape=(4, 8, 8), batch=2)
    standard, failed = make_rows(
        workload, compare(workload, [STANDARD, SEPARABLE], FP32, rounds=1), ROOFLINE, 1
    )

    assert standard.failure is None
    assert standard.ratio_to_standard == 1
    assert failed.failure == "RuntimeError: out of memory"
    assert failed.step_ms is None
    assert failed.ratio_to_standard is None


def test_without_a_standard_there_are_times_but_no_ratios() -> None:
    standard = Measurement(candidate=STANDARD, failure="RuntimeError: out of memory")
    (other,) = compare(TINY, [SEPARABLE], FP32, rounds=1)

    _, row = make_rows(TINY, [standard, other], ROOFLINE, 1)

    assert row.step_ms is not None
    assert row.ratio_to_standard is None


def test_the_published_passes_hold_one_graph_while_the_next_is_built() -> None:
    step, published = (
        compare(TINY, [STANDARD], FP32, rounds=1, protocol=name)[0]
        for name in ("step", "published")
    )

    assert set(published.seconds) == {"forward", "inference"}
    assert step.footprint is not None
    assert published.footprint is not None
    resident = step.footprint.model_bytes + 4 * 2 * 4 * 8 * 8  # and the input
    assert published.footprint.peak_bytes >= resident + 2 * published.footprint.kept_bytes
    assert published.footprint.forward_macs == step.footprint.forward_macs
    work = sum(each.macs for each in published.footprint.step_work)
    assert work == PUBLISHED_PASSES * step.footprint.forward_macs


def test_executions_of_one_convolution_start_from_the_same_weights() -> None:
    folded, factored = (
        Candidate(conv="separable", execution=name) for name in ("folded", "factored")
    )

    measured = compare(TINY, [folded, factored], FP32, rounds=1)

    assert all(each.failure is None for each in measured)
    first, second = (each.footprint for each in measured)
    assert first is not None
    assert second is not None
    assert first.parameters == second.parameters
    assert first.forward_macs > second.forward_macs
    assert (first.chosen, second.chosen) == ({"folded": 1}, {"factored": 1})


def test_an_execution_that_this_machine_lacks_is_told_and_not_measured_as_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(NativeConv, "problem", lambda self: "no such processor")
    winograd = Candidate(conv="subkernel", execution="winograd")

    (found,) = compare(TINY, [winograd], FP32, rounds=1)

    assert found.failure is not None
    assert "'winograd' is not possible here (no such processor)" in found.failure
    assert found.seconds == {}


def test_what_the_claims_measured_is_kept_in_a_folder_that_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new/claims.json"
    monkeypatch.setattr(convolutions, "CLAIMS", {})
    monkeypatch.setattr(convolutions, "measure_roofline", lambda *_: ROOFLINE)
    monkeypatch.setattr(sys, "argv", ["convolutions", "--device", "cpu", "--out", str(out)])

    convolutions.main()

    assert json.loads(out.read_text())["rows"] == []


def test_auto_tells_what_it_chose() -> None:
    (auto,) = compare(TINY, [Candidate(conv="separable", execution="auto")], FP32, rounds=1)

    assert auto.footprint is not None
    assert sum(auto.footprint.chosen.values()) == 1
    assert "auto" not in auto.footprint.chosen


def test_a_compiled_candidate_is_measured_like_the_others() -> None:
    compiled = Candidate(conv="subkernel", execution="folded", compiled=True)

    standard, row = make_rows(
        TINY, compare(TINY, [STANDARD, compiled], FP32, rounds=1), ROOFLINE, 1
    )

    assert row.failure is None
    assert row.name == "subkernel folded compiled"
    assert row.parameters == standard.parameters
    assert row.macs == standard.macs


def test_a_network_is_measured_at_its_published_size_or_as_asked() -> None:
    assert make_workload("vbnet", 0, "cuda").batch == 6
    assert make_workload("vbnet", 0, "cpu").batch == 1
    assert make_workload("vbnet", 2, "cpu").batch == 2
    assert make_workload("conv-layer3d", 0, "cpu").input_gradient
    with pytest.raises(ConfigError, match="negative"):
        make_workload("vbnet", -1, "cpu")


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 6, 8, 8)])
def test_inputs_and_kernels_take_the_memory_format_of_their_dimensions(
    shape: tuple[int, ...],
) -> None:
    channels_last = Candidate(conv="subkernel", execution="folded")
    contiguous = replace(channels_last, memory_format="contiguous")
    x = torch.randn(2, *shape)
    conv = make_conv("subkernel", 4, 4, 3, dimensions=len(shape) - 1)

    assert channels_last.place_input(x, "cpu").stride(1) == 1
    assert contiguous.place_input(x, "cpu").is_contiguous()
    assert channels_last.place_network(conv, x.ndim, "cpu").kernel.stride(1) == 1
    assert str(contiguous) == "subkernel folded contiguous"
