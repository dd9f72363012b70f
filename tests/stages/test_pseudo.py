"""pseudo: no label of a fold reaches its network, and the run is one like any other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.data.cache import Part, TensorCache
from pipeline.errors import BudgetError, ConfigError
from pipeline.stages.chain import run_until
from pipeline.stages.members import Member
from pipeline.stages.pseudo import check_base, open_pseudo_run, pseudo
from pipeline.stages.refine import blend
from pipeline.stages.settings import Settings
from pipeline.training.deadline import Deadline
from pipeline.training.fold import run_fold
from pipeline.training.run import Run
from tests.training.runs import digit_images, make_run

CPU = torch.device("cpu")


def train_folds(run: Run, data: TensorCache, numbers: range) -> None:
    for number in numbers:
        run_fold(run, data, number, CPU, lambda _: None, Deadline())


def test_no_label_of_a_fold_reaches_its_pseudo_labels_or_its_network(tmp_path: Path) -> None:
    """The labels of fold 0's validation images are changed: fold 0 trains to the same bytes."""
    pixels = (load_digits().images[600:900, ..., None] * 15).astype(np.uint8)
    ids = [f"t{row}" for row in range(300)]
    own = replace(digit_images(), test=Part(images=torch.from_numpy(pixels), ids=ids))
    labels = own.train.known_labels().clone()
    labels[::2] = (labels[::2] + 3) % 10  # fold 0 of 2 validates every other image
    others = replace(own, train=replace(own.train, labels=labels))
    made = []
    for name, data in (("own", own), ("others", others)):
        base = make_run(tmp_path / name / "base", data, folds=2, epochs=4, learning_rate=0.1)
        train_folds(base, data, base.folds)
        run = open_pseudo_run(base, data, confidence=0.15)
        train_folds(run, data, range(1))
        made.append(run.folder)

    for same in ("pseudo0.csv", "fold0/weights.safetensors", "fold0/oof.csv", "folds.csv"):
        assert (made[0] / same).read_bytes() == (made[1] / same).read_bytes(), same
    assert (made[0] / "pseudo1.csv").read_bytes() != (made[1] / "pseudo1.csv").read_bytes()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A small run on digits, named."""
    root = tmp_path_factory.mktemp("pseudo")
    settings = Settings(
        competition="digits",
        recipe="smoke",
        set="epochs=3 compile=off threads=1",
        folds=2,
        host="local",
        root=root,
    )
    run_until("train", settings)
    (record,) = root.glob("submissions/digits/*/run.json")
    return replace(settings, run=record.parent.name)


def record_of(settings: Settings, name: str) -> dict[str, Any]:
    path = settings.workspace.runs("digits") / name / "run.json"
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def test_a_pseudo_run_goes_on_after_a_stop_and_is_submitted_and_blended(
    trained: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BudgetError, match="rerun to continue"):
        pseudo(replace(trained, budget="1s"), 0.3)
    (begun,) = trained.workspace.runs("digits").glob("pseudo-*")
    tables = {path: path.stat().st_mtime_ns for path in begun.glob("pseudo*.csv")}

    folder = pseudo(trained, 0.3)
    record, base = record_of(trained, folder.name), record_of(trained, trained.run)

    assert folder == begun
    assert tables == {path: path.stat().st_mtime_ns for path in folder.glob("pseudo*.csv")}
    assert len(tables) == 2
    for key in ("network", "recipe", "folds", "seed", "execution"):
        assert record[key] == base[key]
    counts = [len(pd.read_csv(folder / f"pseudo{number}.csv")) for number in range(2)]
    assert record["pseudo"]["labels"] == counts
    assert (record["pseudo"]["from"], record["pseudo"]["confidence"]) == (trained.run, 0.3)
    differences = np.subtract(record["cv"]["folds"], base["cv"]["folds"])
    assert record["gain"]["folds"] == pytest.approx(differences.tolist())
    assert record["gain"]["over"] == trained.run
    assert f"over {trained.run}: {record['gain']['verdict']}" in capsys.readouterr().out

    run_until("submit", replace(trained, run=folder.name))
    printed = capsys.readouterr().out
    assert "private 0." in printed
    assert pseudo(trained, 0.3) == folder
    assert f"up to date: {folder}" in capsys.readouterr().out
    blended = record_of(trained, blend(trained, "all", "equal").name)
    assert {source["run"] for source in blended["made_from"]} == {trained.run, folder.name}
    with pytest.raises(ConfigError, match="was made from other runs; name one of them: "):
        pseudo(replace(trained, run=blended["run"]), 0.3)


def test_weights_that_were_moved_since_the_run_began_are_where_its_base_has_them(
    tmp_path: Path,
) -> None:
    data = digit_images()
    base = make_run(tmp_path / "base", data, epochs=1, folds=2)
    train_folds(base, data, base.folds)
    before, now = (Run(base.folder, {**base.record, "weights_file": name}) for name in "ab")
    begun = open_pseudo_run(before, data, confidence=0.11)

    run = open_pseudo_run(now, data, confidence=0.11)

    assert run.folder == begun.folder
    assert (begun.weights_file, run.weights_file) == (Path("a"), Path("b"))
    assert Run.open(run.folder).weights_file == Path("b")


@pytest.mark.parametrize("confidence", [0.0, -1.0, 1.5, float("nan")])
def test_what_is_no_confidence_is_refused(trained: Settings, confidence: float) -> None:
    with pytest.raises(ConfigError, match="choose a probability above 0, up to 1"):
        pseudo(trained, confidence)


def test_runs_that_cannot_be_trained_again_are_refused(trained: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pseudo needs a run: RUN=<name>"):
        pseudo(replace(trained, run=""), 0.9)
    with pytest.raises(ConfigError, match=r"fold 0 is that sure of none of .* at most 0\.\d+"):
        pseudo(trained, 1.0)
    folder = trained.workspace.runs("digits") / trained.run
    record = record_of(trained, trained.run)
    data, cache = digit_images(), tmp_path / record["cache"]

    def refused(message: str, data: TensorCache = data, **changes: Any) -> None:
        with pytest.raises(ConfigError, match=message):
            check_base(Member(folder, {**record, **changes}, data), cache)

    several = replace(data.train, labels=torch.zeros(600, 10, dtype=torch.bool))
    refused("one label each", replace(data, train=several))
    refused("was trained on the tensors 'old', .*; give the SIZE that it was", cache="old")
    refused(
        "keeps the epoch that its validation labels", recipe={**record["recipe"], "keep": "best"}
    )
    network = {**record["network"], "weights": "0" * 64}
    refused("starts from weights that are not at None any more", network=network)
    check_base(Member(folder, record, data), cache)
    (folder / "fold1").rename(tmp_path / "fold1")
    refused(rf"1 of 2 folds are missing or incomplete, first {folder}/fold1; rerun the command")
    (tmp_path / "fold1").rename(folder / "fold1")
    unfinished = {key: value for key, value in record.items() if key != "cv"}
    (folder / "run.json").write_text(json.dumps(unfinished))
    with pytest.raises(ConfigError, match="is not finished"):
        pseudo(trained, 0.9)
