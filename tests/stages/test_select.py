"""select: chosen from the ledger, with runs that are there or gone, and marked where it is read."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.client.ledger import Ledger, Upload
from pipeline.client.selection import Selection
from pipeline.errors import ConfigError, DataError
from pipeline.stages.download import download
from pipeline.stages.hosts import choose_host
from pipeline.stages.ledger import print_ledger
from pipeline.stages.select import select
from pipeline.stages.settings import Settings
from tests.client.test_ledger import SCORED


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root = tmp_path_factory.mktemp("select")
    settings = Settings(competition="digits", host="local", root=root)
    download(settings.workspace, "digits", "local")
    return settings


def upload(settings: Settings, ref: int, cv: float, public: float, **changes: object) -> Upload:
    """An upload in the ledger, and the run that it came from: about as sure as its score."""
    instance = choose_host("local").instance
    assert instance is not None
    made = replace(
        SCORED,
        run=f"run-{ref}",
        ref=ref,
        instance=instance,
        cv_mean=cv,
        public_score=public,
        predictions_sha256=f"{ref:064}",
    )
    made = replace(made, **changes)  # type: ignore[arg-type]
    Ledger(settings.workspace.ledger).append(made)
    folder = settings.workspace.runs("digits") / made.run
    folder.mkdir(parents=True, exist_ok=True)
    cv_record = {"metric": "accuracy", "mean": cv, "std": 0.01, "folds": [cv] * 4}
    (folder / "run.json").write_text(json.dumps({"run": made.run, "cv": cv_record}))
    rows = np.random.default_rng(ref).dirichlet(np.ones(10), size=20)
    lines = [",".join(["id", *"0123456789"])]
    lines += [",".join([f"t{row}", *map(str, values)]) for row, values in enumerate(rows)]
    (folder / "test.csv").write_text("\n".join(lines) + "\n")
    return made


def test_two_are_chosen_marked_and_chosen_anew(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"no scored upload to choose from .*make submit"):
        select(settings)
    one = upload(settings, 1, 0.90, 0.90)
    assert select(settings) == [one]
    assert "no other upload" in capsys.readouterr().out
    two = upload(settings, 2, 0.895, 0.89)
    upload(settings, 3, 0.5, 0.5)
    upload(settings, 4, 0.99, 0.0, status="ERROR", public_score=None)
    assert select(settings) == [one, two]
    printed = capsys.readouterr().out
    assert "of 4 uploads left out: 1 without a score" in printed
    assert "too few to say" in printed
    five = upload(settings, 5, 0.95, 0.95)
    chosen = select(settings)
    assert chosen[0] == five
    capsys.readouterr()
    print_ledger(settings.workspace)
    lines = capsys.readouterr().out.splitlines()
    marks = {line.split()[3]: line.split()[-1] for line in lines[1:]}
    assert marks["run-5"] == "1"
    assert marks[chosen[1].run] == "2"
    assert sum(mark in {"1", "2"} for mark in marks.values()) == 2
    ledger = settings.workspace.ledger.read_text().splitlines()
    assert len(ledger) == 5  # choosing writes nothing into it


def test_a_run_that_is_gone_can_still_be_chosen(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = upload(settings, 6, 0.97, 0.97)
    for file in (settings.workspace.runs("digits") / gone.run).iterdir():
        file.unlink()
    assert select(settings)[0] == gone
    assert "run-6" in capsys.readouterr().out


def test_a_damaged_selection_is_named(settings: Settings) -> None:
    path = settings.workspace.selection
    for text in ("{", "[]", '{"digits on here": 7}'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"selected\.json is damaged.*delete it"):
            print_ledger(settings.workspace)
    path.unlink()
    Selection(path).choose([SCORED])
    assert Selection(path).place_of(SCORED) == 1
    assert Selection(path).place_of(replace(SCORED, ref=2)) is None
