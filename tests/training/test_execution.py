"""Decisions are taken by rule, can be asked for, and say why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.models import ImageClassifier, make_model
from pipeline.training.compilation import compile_decision
from pipeline.training.cpu import keep_freed_memory, usable_threads
from pipeline.training.execution import (
    Execution,
    check_cuda,
    choose_execution,
    for_group,
    for_network,
    with_convs,
)
from pipeline.training.precision import precision_for


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((6, 0), "fp32")],
)
def test_precision_by_compute_capability(capability: tuple[int, int], precision: str) -> None:
    chosen, reason = precision_for(capability)

    assert chosen == precision
    assert f"{capability[0]}.{capability[1]}" in reason


def test_every_decision_has_a_row_with_its_reason() -> None:
    rows = {name: (value, reason) for name, value, reason in choose_execution("cpu").table()}

    assert set(rows) == {
        "device",
        "precision",
        "compile",
        "norms",
        "threads",
        "images at once",
        "memory format",
    }
    assert all(value and reason for value, reason in rows.values())
    assert rows["compile"][0] == "off"


def test_what_was_asked_for_wins() -> None:
    asked = {"precision": "fp32", "compile": "off", "threads": "1"}

    execution = choose_execution("cpu", pixels=1e12, asked=asked)

    assert (execution.precision, execution.compile, execution.threads) == ("fp32", False, 1)
    assert {execution.reasons[name] for name in asked} == {"asked for"}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"precision": "fp8"}, "precision='fp8' is unknown; choose from fp32, bf16, fp16"),
        ({"compile": "yes"}, "compile='yes' is unknown; choose from on, off"),
        ({"threads": "0"}, "threads='0': a whole number from 1"),
        ({"device": "tpu"}, "device='tpu' is unknown; choose from auto, cpu, cuda"),
        (
            {"device": "cpu", "norms": "native", "compile": "on"},
            "norms=native is not possible: compiled with the step; choose norms=torch",
        ),
    ],
)
def test_a_bad_wish_is_refused(asked: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        choose_execution(asked=asked)


def test_a_device_that_runs_no_kernel_is_refused_whatever_it_claims() -> None:
    """`meta` is a device that exists and computes nothing."""
    with pytest.raises(ConfigError, match=r"meta cannot run torch .*; choose SET='device=cpu'"):
        check_cuda("meta")


def test_a_run_that_goes_on_at_a_gpu_too_old_for_torch_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where one session was given a T4 and the next a P100."""

    def no_kernel(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla P100")
    monkeypatch.setattr(torch, "ones", no_kernel)

    with pytest.raises(ConfigError, match=r"Tesla P100 cannot run torch .*no kernel image"):
        Execution(device="cuda", precision="fp16").missing()


def test_compiling_must_pay() -> None:
    pays, reason = compile_decision("cpu", pixels=1e6)

    assert not pays
    assert "1.0e+06 pixels" in reason


def without_compiler(tmp_path: Path, script: str) -> str:
    """What a script prints in a process of its own: torch remembers which compiler it found."""
    without = {
        "CXX": "/no/such/compiler",
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
        "PIPELINE_CACHE": str(tmp_path),
    }
    command = [sys.executable, "-c", f"from pipeline.training.execution import *\n{script}"]
    result = subprocess.run(
        command, env={**os.environ, **without}, capture_output=True, text=True, check=True
    )
    return result.stdout


def test_what_was_decided_on_another_processor_is_decided_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = Execution(device="cpu", precision="bf16", convs={"conv": "winograd"})
    problem = "pipeline.training.execution.native_conv_problem"

    monkeypatch.setattr(problem, lambda name: None)
    assert stored.is_available()
    monkeypatch.setattr(problem, lambda name: "the processor does not report avx512_bf16")
    assert not stored.is_available()
    assert stored.missing() == "the processor does not report avx512_bf16"


def test_where_no_compiler_is_found_the_reason_is_told(tmp_path: Path) -> None:
    told = without_compiler(tmp_path, "print(*compile_decision('cpu', pixels=1e12))")

    assert told.startswith("False torch.compile does not work here")


def test_without_a_compiler_the_librarys_norms_train(tmp_path: Path) -> None:
    told = without_compiler(
        tmp_path,
        "chosen = choose_execution('cpu')\nprint(chosen.norms, chosen.reasons['norms'])",
    )

    assert told.startswith("torch ")
    assert "/no/such/compiler" in told


def test_native_norms_asked_for_without_a_compiler_are_refused(tmp_path: Path) -> None:
    told = without_compiler(
        tmp_path,
        "try:\n    choose_execution('cpu', asked={'norms': 'native'})\n"
        "except ConfigError as err:\n    print(err)",
    )

    assert told.startswith("norms=native is not possible")
    assert "/no/such/compiler" in told


@pytest.mark.parametrize(
    ("model", "sides", "precision"),
    [
        ("nntrain-cnn", (8, 8), "fp32"),
        ("nntrain-cnn", (28, 28), "bf16"),
        ("nntrain-cnn", (64, 64), "bf16"),
        ("resnet18", (20, 20), "fp32"),
        ("resnet18", (64, 16), "fp32"),
        ("resnet18", (16, 64), "fp32"),
    ],
)
def test_bf16_is_left_where_a_convolution_sees_single_pixels_or_a_row_of_them(
    model: str, sides: tuple[int, int], precision: str
) -> None:
    """There the CPU library's weight gradients are now and then not numbers."""
    net = ImageClassifier(make_model(model, "subkernel", 1, 10, 0.0), torch.ones(1), torch.ones(1))
    images = torch.zeros(2, *sides, 1, dtype=torch.uint8)
    bf16 = choose_execution("cpu", asked={"precision": "bf16"})

    chosen = for_network(bf16, net, images, asked={})

    assert chosen.precision == precision
    assert ("half their kernel's size" in chosen.reasons["precision"]) == (precision == "fp32")
    assert for_network(bf16, net, images, asked={"precision": "bf16"}) == bf16


def test_a_group_of_processes_has_neither_native_nor_compiled_nor_recorded_steps() -> None:
    chosen = Execution(device="cuda", precision="bf16", compile=True, graphs=True, norms="native")

    shared = for_group(chosen)

    assert ("compile", "off", "LAUNCH=ddp") in shared.table()
    assert ("graphs", "off", "LAUNCH=ddp") in shared.table()
    assert (shared.norms, shared.reasons["norms"]) == ("torch", "LAUNCH=ddp")
    assert for_group(shared) == shared


def test_convolution_executions_are_counted() -> None:
    execution = with_convs(choose_execution("cpu"), {"a": "folded", "b": "factored", "c": "folded"})

    assert execution.table()[-1][:2] == ("convolutions", "1 factored, 2 folded")


@pytest.mark.parametrize("execution", ["folded", "factored"])
def test_convolution_executions_that_were_asked_for_are_not_told_to_be_timed(
    execution: str,
) -> None:
    asked = with_convs(choose_execution("cpu"), {"a": execution}, asked=True)

    assert asked.table()[-1][2] == "asked for"


def test_threads_and_memory_of_a_process() -> None:
    threads, reason = usable_threads()
    assert 1 <= threads <= torch.get_num_threads()
    assert reason
    assert keep_freed_memory() in (True, False)
    before = torch.get_num_threads()

    Execution(device="cpu", precision="fp32", threads=1).prepare_process()

    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)
