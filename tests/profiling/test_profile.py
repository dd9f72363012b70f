"""`python -m pipeline profile`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pipeline.__main__ import main

PNG = b"\x89PNG\r\n"
PROMISED = {
    "model",
    "conv",
    "execution",
    "compiled",
    "parameters",
    "model_bytes",
    "macs",
    "forward_ms",
    "backward_ms",
    "step_ms",
    "step_ms_quartiles",
    "ratio_to_standard",
    "ratio_quartiles",
    "inference_ms",
    "peak_bytes",
    "memory_ratio_to_standard",
    "kept_bytes",
    "inference_peak_bytes",
    "roofline_ms",
    "roofline_share",
    "rounds",
    "protocol",
    "device",
    "device_name",
    "precision",
    "torch",
}


def run(out: Path, *arguments: str) -> int:
    return main(["profile", "--out", str(out), "--batch", "8", "--rounds", "2", *arguments])


def test_json_lists_every_variant_and_execution_beside_the_standard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(
        tmp_path, "--models", "mnist-net", "--convs", "subkernel,separable-norm", "--device", "cpu",
        "--precision", "fp32", "--json",
    )  # fmt: skip
    printed = capsys.readouterr()

    assert code == 0
    rows = json.loads(printed.out)
    assert [(row["conv"], row["execution"]) for row in rows] == [
        ("subkernel", "folded"),
        ("subkernel", "shifted"),
        ("subkernel", "auto"),
        ("separable-norm", "library"),
    ]
    standard = rows[0]
    assert standard["ratio_to_standard"] == 1
    assert standard["ratio_quartiles"] == [1, 1]
    assert standard["memory_ratio_to_standard"] == 1
    for row in rows:
        assert row.keys() >= PROMISED
        assert row["failure"] is None
        assert row["model"] == "mnist-net"
        assert row["rounds"] == 2
        assert row["precision"] == "fp32"
        assert row["torch"] == torch.__version__.split("+")[0]
        assert row["peak_bytes"] > row["kept_bytes"] > 0
        assert 0 < row["forward_ms"] < row["step_ms"]
        low, high = row["step_ms_quartiles"]
        assert low <= row["step_ms"] <= high
    assert "mnist-net" in printed.err  # the progress bar


def test_tables_name_ratios_and_rates_and_the_files_they_went_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(
        tmp_path, "--models", "mnist-net", "--convs", "channel-selection-linear",
        "--protocol", "published", "--memory-format", "contiguous", "--precision", "fp32",
        "--device", "cpu",
    )  # fmt: skip
    printed = capsys.readouterr().out

    assert code == 0
    for text in ("matrix products fp32", "GB/s", "protocol published", "ratio", "of roofline"):
        assert text in printed
    name = "mnist-net-cpu-fp32-batch8-contiguous-published"
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert written["roofline"]["bytes_per_second"] > 0
    assert [row["execution"] for row in written["rows"]] == ["folded", "linear"]
    assert all(row["backward_ms"] is None for row in written["rows"])
    assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--convs", "subkernel,depthwise"), "channel-selection"),
        (("--models", "resnet14,resnet15"), "mnist-net"),
        (("--models", ""), "--models"),
        (("--rounds", "0"), "at least 1"),
        (("--batch", "-1"), "negative"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_measured(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *arguments) == 2

    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--device", "--precision", "--protocol", "--memory-format"])
def test_a_choice_that_does_not_exist_is_answered_with_those_that_do(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(tmp_path, option, "nonsense")

    assert exit_.value.code == 2
    assert option in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--device", "cuda") == 2
    assert "cpu" in capsys.readouterr().err
