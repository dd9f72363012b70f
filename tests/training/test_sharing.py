"""Folds that train on one device at the same time are those that train there in turn."""

import os
import shutil

import numpy as np
import pytest
import torch

from pipeline.training.deadline import Deadline
from pipeline.training.execution import choose_execution
from pipeline.training.launch import train_on_devices
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


def predictions(run):
    return np.concatenate([read_probabilities(run.fold(k) / "oof.csv") for k in run.folds])


@on_a_gpu
def test_on_a_gpu_they_predict_the_same(trained, capfd):
    on_gpu = {"device": "cuda", "graphs": True}

    in_turn, at_once = trained("in-turn", **on_gpu), trained("at-once", **on_gpu, folds_at_once=3)

    assert np.abs(predictions(in_turn) - predictions(at_once)).mean() < 0.02
    if shutil.which("nvidia-cuda-mps-control"):
        assert "take turns" not in capfd.readouterr().err


def test_a_cpu_trains_one_at_a_time_unless_asked():
    assert choose_execution("cpu").folds_at_once == 1
    assert choose_execution("cpu", asked={"folds_at_once": "2"}).folds_at_once == 2


@pytest.mark.parametrize(
    ("program", "told"),
    [(None, "not installed"), ("echo no GPU is here\nexit 1", "no GPU is here")],
    ids=["missing", "failing"],
)
def test_without_a_server_they_take_turns_and_say_why(program, told, tmp_path, monkeypatch, capsys):
    if program:
        script = tmp_path / "nvidia-cuda-mps-control"
        script.write_text(f"#!/bin/sh\n{program}\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)

    with shared_gpus() as environment:
        assert environment == {}

    assert told in capsys.readouterr().err


def test_a_server_lasts_as_long_as_the_folds(tmp_path, monkeypatch):
    script = tmp_path / "nvidia-cuda-mps-control"
    script.write_text(f'#!/bin/sh\n[ "$1" = -d ] || cat > {tmp_path}/told\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)

    with shared_gpus() as environment:
        pipes = environment["CUDA_MPS_PIPE_DIRECTORY"]
        assert os.path.isdir(pipes)

    assert (tmp_path / "told").read_text() == "quit\n"
    assert not os.path.exists(pipes)
