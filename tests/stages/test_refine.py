"""Derived runs: made of real runs, submitted like any other, and refused where nothing fits."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.metrics import metric_named, registry, score
from pipeline.metrics.decisions import decision_of
from pipeline.stages.chain import run_until
from pipeline.stages.ledger import print_ledger
from pipeline.stages.refine import blend, calibrate, thresholds
from tests.stages.refining import Refinery


@pytest.fixture
def refinery(small_runs: Refinery, tmp_path: Path) -> Refinery:
    """A copy of the checkout, to be spoilt."""
    return small_runs.copy(tmp_path / "checkout")


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"id": str}).set_index("id")


def truth_of(refinery: Refinery) -> pd.Series:
    (labels,) = refinery.settings.workspace.raw("digits").glob("train.csv")
    table = pd.read_csv(labels, dtype=str)
    return table.set_index(table.columns[0])[table.columns[1]].astype(int)


def test_a_blend_is_scored_nested_and_goes_through_submission_and_upload(
    refinery: Refinery, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = blend(refinery.settings, "all", "greedy")
    record = refinery.record(folder.name)
    out_of_fold, folds = read(folder / "oof.csv"), read(folder / "folds.csv")["fold"]
    labels = truth_of(refinery)

    assert [source["run"] for source in record["made_from"]] == list(refinery.runs)
    assert record["gain"]["verdict"] in {"better", "within noise", "worse"}
    assert (folder / "blend.png").stat().st_size > 0
    for number, held_out in enumerate(record["cv"]["folds"]):
        rows = folds.index[folds == number]
        own = score("accuracy", labels.loc[rows].to_numpy(), out_of_fold.loc[rows].to_numpy())
        assert own == pytest.approx(held_out)
    weights = record["parameters"]["weights"]
    parts = [read(refinery.folder(name) / "test.csv") for name in refinery.runs]
    expected = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    assert np.allclose(read(folder / "test.csv"), expected.loc[read(folder / "test.csv").index])

    run_until("submit", refinery.with_run(folder.name))
    print_ledger(refinery.settings.workspace)
    printed = capsys.readouterr().out
    assert f"upload it with: make submit COMPETITION=digits RUN={folder.name}" in printed
    assert "private 0." in printed
    assert f"digits       {folder.name}" in printed
    assert blend(refinery.settings, ",".join(refinery.runs), "greedy") == folder
    assert f"up to date: {folder}" in capsys.readouterr().out
    assert (folder / "submission.csv").exists()
    with pytest.raises(ConfigError, match="made from other runs and has no network"):
        run_until("export", refinery.with_run(folder.name))


def test_a_decision_is_written_where_the_submission_finds_it(refinery: Refinery) -> None:
    refinery.set_metric("macro_f1")
    folder = thresholds(refinery.with_run(refinery.runs[0]))
    record = refinery.record(folder.name)
    run_until("submission", refinery.with_run(folder.name))
    test, submitted = read(folder / "test.csv"), read(folder / "submission.csv")["label"]

    assert record["decision"]["kind"] == "weights"
    assert record["cv"]["metric"] == "macro_f1"
    decided = decision_of(record, list(test.columns)).decide(test.to_numpy())
    assert (submitted.loc[test.index].to_numpy() == decided).all()
    assert read(folder / "oof.csv").equals(read(refinery.folder(refinery.runs[0]) / "oof.csv"))
    with pytest.raises(ConfigError, match="has a decision already, which is the last step"):
        blend(refinery.settings, f"{folder.name},{refinery.runs[0]}", "equal")
    with pytest.raises(ConfigError, match="calibrate is for log_loss"):
        calibrate(refinery.with_run(refinery.runs[0]))


def test_a_blend_made_for_another_metric_is_fitted_anew_for_that_one(refinery: Refinery) -> None:
    """As its test predictions were: else the score would be that of another blend."""
    refinery.set_metric("accuracy")
    blended = blend(refinery.settings, "all", "greedy")
    refinery.set_metric("quadratic_kappa")
    decided = thresholds(refinery.with_run(blended.name))

    assert (decided / "oof.csv").read_bytes() == (blended / "oof.csv").read_bytes()


def test_a_run_without_a_fold_and_without_predictions_is_to_be_trained(refinery: Refinery) -> None:
    folder = refinery.folder(refinery.runs[0])
    shutil.rmtree(folder / "fold1")
    (folder / "test.csv").unlink()
    told = r"first .*fold1; rerun the command that made it"

    with pytest.raises(ConfigError, match=told):
        blend(refinery.settings, "all", "equal")
    with pytest.raises(ConfigError, match=told):
        run_until("submission", refinery.with_run(folder.name))


@pytest.mark.filterwarnings("error")
def test_a_metric_that_is_undefined_on_the_folds_is_told_in_one_line(
    refinery: Refinery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an area is where a fold lacks a class; the runs were trained for another metric."""
    undefined = replace(metric_named("macro_f1"), compute=lambda *_: float("nan"))
    monkeypatch.setitem(registry._METRICS, "macro_f1", undefined)
    refinery.set_metric("macro_f1")

    with pytest.raises(ConfigError, match="macro_f1 is undefined on 3 of 3 folds, first fold 0"):
        blend(refinery.settings, "all", "equal")


def test_a_calibrated_run_may_be_refined_again(refinery: Refinery) -> None:
    refinery.ask_for_probabilities()
    settings = replace(refinery.settings, host="auto")
    folder = calibrate(replace(settings, run=refinery.runs[0]))
    record = refinery.record(folder.name)
    before = read(refinery.folder(refinery.runs[0]) / "test.csv")

    assert record["parameters"]["temperature"] < 1  # label smoothing makes three epochs timid
    assert record["gain"]["verdict"] == "better"
    assert (folder / "reliability.png").stat().st_size > 0
    assert (read(folder / "test.csv").to_numpy().argmax(1) == before.to_numpy().argmax(1)).all()
    again = blend(settings, f"{folder.name},{refinery.runs[1]}", "greedy")
    assert refinery.record(again.name)["cv"]["mean"] < record["cv"]["mean"]
    with pytest.raises(ConfigError, match="scores no decisions"):
        thresholds(replace(settings, run=folder.name))


def test_runs_that_do_not_fit_are_refused_by_name(refinery: Refinery) -> None:
    first, second = refinery.runs
    other = refinery.folder(second)

    def refused(error: type[Exception], message: str, runs: str = f"{first},{second}") -> None:
        with pytest.raises(error, match=message):
            blend(refinery.settings, runs, "greedy")

    refused(ConfigError, f"RUN='nothing' is no run of 'digits'; there are: {first}", "nothing,else")
    refused(ConfigError, "named 2 times", f"{first},{first}")
    refused(ConfigError, "names 1 runs", first)
    record = refinery.record(second)
    refinery.change_record(second, competition="mnist")
    refused(ConfigError, f"RUN='{second}' belongs to the competition 'mnist'")
    refinery.change_record(second, **record)
    refinery.change_record(second, folds={"count": 3, "sha256": "0" * 64})
    folds = read(other / "folds.csv")
    folds.iloc[:5] = (folds.iloc[:5] + 1) % 3
    folds.to_csv(other / "folds.csv")
    refused(
        ConfigError,
        rf"{second} was cross-validated on other folds .*: 5 of 1297 images .*first .*FOLD_SEED",
    )
    refused(ConfigError, "names 1 runs", "all")
    shutil.copy(refinery.folder(first) / "folds.csv", other / "folds.csv")
    refinery.change_record(second, **record)
    out_of_fold = read(other / "oof.csv")
    out_of_fold.iloc[2:].to_csv(other / "oof.csv")
    refused(
        DataError, rf"oof.csv: its training images are not .*: 2 differ, first '{folds.index[0]}'"
    )
    out_of_fold.rename(columns={"3": "three"}).to_csv(other / "oof.csv")
    refused(DataError, r"oof.csv: its classes are not .*: 2 differ, first ")
    out_of_fold.to_csv(other / "oof.csv")
    out_of_fold.assign(**{"3": -0.5}).to_csv(other / "oof.csv")
    refused(DataError, "1297 rows are no probabilities")
    (other / "oof.csv").unlink()
    refused(ConfigError, f"RUN='{second}' is not finished")
    with pytest.raises(ConfigError, match="calibrate needs a run: RUN=<name>"):
        calibrate(refinery.settings)


def test_what_a_derived_run_was_made_from_must_be_there(refinery: Refinery) -> None:
    folder = blend(refinery.settings, "all", "equal")
    path = refinery.folder(refinery.runs[0]) / "test.csv"
    before = path.read_bytes()
    path.unlink()  # as the advice is where it is damaged
    shutil.rmtree(thresholds(refinery.with_run(folder.name)))
    assert path.read_bytes() == before
    changed = read(path)
    changed.iloc[0] = 0.1
    changed.to_csv(path)
    with pytest.raises(DataError, match=f"{folder.name} was made from other predictions"):
        thresholds(refinery.with_run(folder.name))
    (folder / "test.csv").unlink()
    with pytest.raises(ConfigError, match="made from other runs and has no execution"):
        run_until("predict", refinery.with_run(folder.name))
    record = json.loads((folder / "run.json").read_text())
    assert record["parameters"]["weights"] == [0.5, 0.5]
