"""A run starts from another run's weights, and says how its images are normalised."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import ConfigError, DataError
from pipeline.stages.chain import run_until
from pipeline.stages.settings import Settings
from tests.stages.commands import write_digit_images

WEIGHTS = "fold0/weights.safetensors"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_digit_images(tmp_path / "data/first/raw", train=100)
    write_digit_images(tmp_path / "data/second/raw", train=200)
    return Settings(
        competition="first",
        model="mnist-net",
        size=28,
        recipe="smoke",
        folds=2,
        host="local",
        root=tmp_path,
    )


def run_of(settings: Settings) -> Path:
    (record,) = settings.workspace.runs(settings.competition).glob("*/run.json")
    return record.parent


def test_another_competition_starts_from_a_folds_weights(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    run_until("train", settings)
    first = run_of(settings)
    fine = replace(settings, competition="second", recipe="finetune", set="epochs=2 frozen=0.5")
    with pytest.raises(ConfigError, match="there are no weights of mnist-net to start from"):
        run_until("train", fine)

    run_until("predict", replace(fine, weights=str(first / WEIGHTS)))

    assert f"starts from {(first / WEIGHTS).absolute()}" in capsys.readouterr().out
    second = run_of(fine)
    network = json.loads((second / "run.json").read_text())["network"]
    before, after = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    assert network["mean"] == pytest.approx(before["mean"].tolist())
    torch.testing.assert_close(after["mean"], before["mean"])
    torch.testing.assert_close(after["scale"], before["scale"])
    assert json.loads((first / "run.json").read_text())["network"]["mean"] is None

    with pytest.raises(DataError, match="holds weights of another network"):
        run_until("train", replace(fine, model="nntrain-cnn", weights=str(first / WEIGHTS)))
