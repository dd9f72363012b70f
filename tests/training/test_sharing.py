"""Folds that train on one device at the same time are those that train there in turn."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.stages.settings import Settings, check_names
from pipeline.training.deadline import Deadline
from pipeline.training.execution import Execution, choose_execution
from pipeline.training.launch import places_for, train_on_devices
from pipeline.training.sharing import shared_gpus
from pipeline.training.tables import read_probabilities
from tests.training.runs import make_run, write_cache

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture(scope="module")
def cache(tmp_path_factory, digits):
    return write_cache(digits, tmp_path_factory.mktemp("cache") / "cache")


@pytest.fixture
def trained(tmp_path, digits, cache):
    def train(name, **decisions):
        folder = tmp_path / name
        folder.mkdir()
        run = make_run(folder, digits, folds=3, dropout=0.0, learning_rate=0.02, **decisions)
        train_on_devices([run], cache, lambda *_: None, Deadline())
        return run

    return train


@pytest.fixture
def server(request, tmp_path, monkeypatch):
    """The control program's place is taken by one that writes what it is told to this file."""
    code = getattr(request, "param", 0)
    script, told = tmp_path / "nvidia-cuda-mps-control", tmp_path / "told"
    script.write_text(f'#!/bin/sh\n[ "$1" = -d ] || {{ cat > {told}; exit {code}; }}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    return told


def predictions(run):
    return np.concatenate([read_probabilities(run.fold(k) / "oof.csv") for k in run.folds])


@on_a_gpu
def test_on_a_gpu_they_predict_the_same(trained, capfd):
    on_gpu = {"device": "cuda", "graphs": True}

    in_turn, at_once = trained("in-turn", **on_gpu), trained("at-once", **on_gpu, folds_at_once=3)

    assert np.abs(predictions(in_turn) - predictions(at_once)).mean() < 0.02
    if shutil.which("nvidia-cuda-mps-control"):
        assert "one fold at a time" not in capfd.readouterr().err


def test_every_gpu_has_a_fold_before_one_has_two(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    execution = Execution(device="cuda", precision="fp32")

    assert [str(place) for place in places_for(execution, 2)] == 2 * ["cuda:0", "cuda:1"]


def test_one_at_a_time_unless_asked():
    execution = choose_execution("cpu", asked={"folds_at_once": "2"})

    assert choose_execution("cpu").folds_at_once == 1
    assert execution.folds_at_once == 2
    assert ("folds at once", "2", "asked for") in execution.table()


def test_only_folds_that_train_alone_can_train_at_once():
    with pytest.raises(ConfigError, match="folds_at_once is for LAUNCH=auto, not ddp"):
        check_names(Settings(set="folds_at_once=2", launch="ddp"))


@pytest.mark.parametrize("wish", ["compile=on", "graphs=on", "norms=native"])
def test_what_a_group_of_processes_cannot_do_is_refused(wish):
    with pytest.raises(ConfigError, match=f"{wish} is not possible with LAUNCH=ddp"):
        check_names(Settings(set=wish, launch="ddp"))
    check_names(Settings(set="compile=off graphs=off norms=torch", launch="ddp"))


def test_a_server_that_somebody_runs_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/run/mps")

    with shared_gpus() as environment:
        assert environment == {}


@pytest.mark.parametrize(
    ("server", "said"), [(0, ""), (3, "may still run: exit code 3")], indirect=["server"]
)
def test_a_server_is_told_to_quit_and_it_is_said_if_it_does_not(server, said, capsys):
    with shared_gpus():
        assert not server.exists()

    assert server.read_text() == "quit\n"
    told = capsys.readouterr().err
    assert said in told
    assert bool(told) == bool(said)


def test_folds_see_the_gpus_that_the_server_counts(monkeypatch, server):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    with shared_gpus() as environment:
        assert environment["CUDA_VISIBLE_DEVICES"] == "0,1"


@pytest.mark.parametrize(
    ("program", "told"),
    [(None, "not installed"), ("echo no GPU is here\nexit 1", "no GPU is here")],
    ids=["missing", "failing"],
)
def test_without_a_server_they_train_in_turn_and_it_is_said_why(
    program, told, tmp_path, monkeypatch, capsys
):
    if program:
        script = tmp_path / "nvidia-cuda-mps-control"
        script.write_text(f"#!/bin/sh\n{program}\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)

    with shared_gpus() as environment:
        assert environment is None

    assert told in capsys.readouterr().err


def test_a_server_lasts_as_long_as_the_folds(server):
    with shared_gpus() as environment:
        pipes = Path(environment["CUDA_MPS_PIPE_DIRECTORY"])
        assert pipes.is_dir()
        assert not server.exists()

    assert server.read_text() == "quit\n"
    assert not pipes.exists()
