"""Executions are chosen by timing, once per case and device."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline import native
from pipeline.convs import (
    apply_executions,
    auto,
    choose_executions,
    executions_of,
    make_conv,
    memory,
    set_execution,
)
from pipeline.convs.memory_budget import fit_memory
from pipeline.errors import ConfigError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A cache folder of its own and a process that remembers nothing."""
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path))
    monkeypatch.setattr(memory, "_known", {})
    return tmp_path


SPEEDS = (("fast", 0.5), ("slow", 1.2), ("middle", 1.0))


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        make_conv("channel-selection", 3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        make_conv("bottleneck", 4, 8, 3, stride=2),
        make_conv("channel-selection", 8, 4, 1),
    )


def remembered(cache: Path) -> dict[str, dict[str, float]]:
    [file] = cache.rglob("*.json")
    return json.loads(file.read_text())


def as_new_process(monkeypatch) -> None:
    monkeypatch.setattr(memory, "_known", {})


X = torch.randn(2, 3, 8, 8)


def test_every_auto_convolution_gets_an_execution_that_it_offers():
    net = make_net()

    choices = choose_executions(net, X)

    assert list(choices) == ["0", "3", "4"]
    for path, name in choices.items():
        conv = net.get_submodule(path)
        assert conv.execution == name
        assert name in executions_of(conv)


def test_choosing_changes_nothing_else():
    net = make_net().train()
    net[2].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()

    choose_executions(net, X)

    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in net] == [True, True, False, True, True]
    assert all(p.grad is None for p in net.parameters())
    torch.testing.assert_close(dict(net.state_dict()), before)


def test_equal_cases_are_timed_once_and_a_later_process_reads_them(cache, monkeypatch):
    first = choose_executions(make_net(), X)
    cases = remembered(cache)
    [file] = cache.rglob("*.json")
    doubled = {case: {n: 2 * ms for n, ms in times.items()} for case, times in cases.items()}
    file.write_text(json.dumps(doubled))
    as_new_process(monkeypatch)

    assert choose_executions(make_net(), X) == first
    assert remembered(cache) == doubled  # timing anew would have replaced the doubled times
    assert len(cases) == 2  # a 1 x 1 channel selection is never timed


def test_another_shape_mode_or_precision_is_another_case(cache):
    choose_executions(make_net(), X)
    choose_executions(make_net(), X[:1])
    choose_executions(make_net(), X, training=False)
    with torch.autocast("cpu", torch.bfloat16):
        choose_executions(make_net(), X)

    assert len(remembered(cache)) == 8


def test_another_processor_has_times_of_its_own(cache, monkeypatch):
    """As machines have that share a home."""
    for name in ("AMD EPYC", "Intel(R) Xeon(R) Processor", "AMD EPYC"):
        monkeypatch.setattr(native, "_processor", lambda name=name: {"model name": name})
        choose_executions(make_net(), X)
        as_new_process(monkeypatch)

    amd, intel = sorted(file.name for file in cache.rglob("*.json"))
    assert amd.startswith("cpu-amd-epyc-")
    assert intel.startswith("cpu-intel-r-xeon-r-processor-")


def test_processes_at_once_keep_what_each_has_timed(cache, monkeypatch):
    device, times = torch.device("cpu"), {"folded": 1.0}
    assert memory.recall(device, "own") is None  # the file has been looked for
    with monkeypatch.context() as another:
        as_new_process(another)
        memory.remember(device, "another's", times)

    memory.remember(device, "own", times)

    assert remembered(cache) == {"another's": times, "own": times}


def test_an_execution_that_earlier_code_did_not_have_is_timed_too(cache, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(auto, "executions_of", lambda conv: ("folded", "recomputed"))
        choose_executions(make_net(), X)
    assert all(set(times) <= {"folded", "recomputed"} for times in remembered(cache).values())

    choose_executions(make_net(), X)

    assert len(remembered(cache)) == 4


@pytest.mark.parametrize(
    ("channels", "side", "training", "expected"),
    [
        (64, 2, True, "factored"),  # 36,864 weights less pay for the inner tensors
        (2, 64, True, "recomputed"),  # nothing pays for them
        (2, 64, False, "factored"),  # and without a backward pass nothing is kept
    ],
)
def test_training_keeps_inner_tensors_as_far_as_saved_parameters_pay(
    cache, monkeypatch, channels, side, training, expected
):
    net = nn.Sequential(make_conv("channel-selection", channels, channels, 3, padding=1))
    x = torch.randn(2, channels, side, side)
    choose_executions(net, x, training=training)
    [file] = cache.rglob("*.json")
    times = {"folded": 1.0, "recomputed": 0.8, "factored": 0.5}
    file.write_text(json.dumps(dict.fromkeys(remembered(cache), times)))
    as_new_process(monkeypatch)
    set_execution(net, "auto")

    assert choose_executions(net, x, training=training) == {"0": expected}


def test_what_gains_least_time_per_byte_gives_way_first():
    timings = {name: {"folded": 2.0, "recomputed": 1.5, "factored": ms} for name, ms in SPEEDS}
    choices = dict.fromkeys(timings, "factored")

    fit_memory(choices, timings, kept=dict.fromkeys(timings, 100), budget=200)

    assert choices == {"fast": "factored", "middle": "factored", "slow": "recomputed"}


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"folded": 1.0, "recomputed": 0.97}, "folded"),
        ({"folded": 1.0, "recomputed": 0.90}, "recomputed"),
        ({"folded": 1.0, "recomputed": 0.90, "shifted": 0.5}, "shifted"),
    ],
)
def test_folded_stays_unless_another_is_faster_by_a_margin(cache, monkeypatch, times, expected):
    net = nn.Sequential(make_conv("separable", 3, 4, 3))
    choose_executions(net, X)
    [file] = cache.rglob("*.json")
    file.write_text(json.dumps(dict.fromkeys(remembered(cache), times)))
    as_new_process(monkeypatch)
    set_execution(net, "auto")

    assert choose_executions(net, X) == {"0": expected}


@pytest.mark.parametrize("damage", ["{", "[]", '{"case": 3}', '{"case": {"folded": "x"}}'])
def test_a_damaged_file_is_told_of_and_replaced(cache, monkeypatch, caplog, damage):
    choose_executions(make_net(), X)
    [file] = cache.rglob("*.json")
    file.write_text(damage)
    as_new_process(monkeypatch)

    with caplog.at_level(logging.WARNING):
        choose_executions(make_net(), X)

    assert [str(file) in line and "damaged" in line for line in caplog.messages] == [True]
    assert len(remembered(cache)) == 2


def test_times_of_executions_that_no_longer_exist_are_taken_anew(cache, monkeypatch):
    choose_executions(make_net(), X)
    [file] = cache.rglob("*.json")
    file.write_text(json.dumps({case: {"folded": 1.0, "gone": 0.1} for case in remembered(cache)}))
    as_new_process(monkeypatch)

    choose_executions(make_net(), X)

    assert all("gone" not in times for times in remembered(cache).values())


@pytest.mark.parametrize("times", [{}, {"recomputed": 1.0}])
def test_times_without_the_one_that_all_are_compared_with_are_taken_anew(cache, monkeypatch, times):
    choose_executions(make_net(), X)
    [file] = cache.rglob("*.json")
    file.write_text(json.dumps(dict.fromkeys(remembered(cache), times)))
    as_new_process(monkeypatch)

    choose_executions(make_net(), X)

    assert all("folded" in times for times in remembered(cache).values())


def test_where_nothing_can_be_written_the_choice_is_made_all_the_same(cache, monkeypatch, caplog):
    (cache / "file").write_text("not a folder")
    monkeypatch.setenv("PIPELINE_CACHE", str(cache / "file"))

    with caplog.at_level(logging.WARNING):
        choices = choose_executions(make_net(), X)

    assert len(choices) == 3
    assert any("not kept" in line for line in caplog.messages)


def test_choices_are_applied_elsewhere_and_a_fixed_execution_is_left_alone():
    net = make_net()
    net[3].execution = "recomputed"
    choices = choose_executions(net, X)

    other = make_net()
    apply_executions(other, choices | {"3": "recomputed"})

    assert "3" not in choices
    assert [other[i].execution for i in (0, 3, 4)] == [net[i].execution for i in (0, 3, 4)]


def test_choices_for_another_network_are_refused():
    with pytest.raises(ConfigError, match="no convolution '7' to execute as folded"):
        apply_executions(make_net(), {"7": "folded"})
