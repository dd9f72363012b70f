"""The audit as a user runs it: figures, report, runs, folds by copies, errors."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.stages.audit import audit
from pipeline.stages.settings import Settings
from tests.stages.commands import Outcome, run_here, write_digit_images

FOLDER = Path("submissions/my-digits")
OPTIONS = ("--competition", "my-digits", "--folds", "2", "--recipe", "smoke")
COPIES = {"0100": "0001", "0200": "0001", "0300": "0002"}  # of training images; 0620 is of the test
WRONG = "0300"  # its copy's label differs


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Handwritten digits with planted copies, one with a wrong label, and a trained run."""
    root = tmp_path_factory.mktemp("checkout")
    raw = root / "data/my-digits/raw"
    write_digit_images(raw)
    labels = pd.read_csv(raw / "train.csv", dtype=str).set_index("id")["label"]
    for copy, original in COPIES.items():
        (raw / f"train/{copy}.png").write_bytes((raw / f"train/{original}.png").read_bytes())
        labels[copy] = labels[original]
    labels[WRONG] = "7" if labels[WRONG] != "7" else "1"
    labels.reset_index().to_csv(raw / "train.csv", index=False)
    (raw / "test/0610.png").write_bytes((raw / "train/0005.png").read_bytes())
    return root


@pytest.fixture(scope="module")
def before_training(checkout: Path) -> tuple[str, dict]:
    """What the audit printed and found while there was no run."""
    with redirect_stdout(io.StringIO()) as printed:
        audit(settings(checkout), group=False)
    return printed.getvalue(), findings(checkout)


@pytest.fixture(scope="module")
def trained(checkout: Path, before_training: tuple[str, dict]) -> Outcome:
    """A run on folds that know nothing of copies."""
    outcome = run_here(checkout, "train", *OPTIONS)
    assert outcome.code == 0, outcome.errors
    return outcome


@pytest.fixture(scope="module")
def audited_twice(checkout: Path, trained: Outcome) -> list[list[bytes]]:
    """The files of two audits of the checkout with its run; the second one's stay there."""
    written = []
    for _ in range(2):
        audit(settings(checkout), group=False)
        folder = checkout / FOLDER / "audit"
        written.append([(folder / name).read_bytes() for name in ("audit.json", "report.html")])
    return written


def findings(root: Path) -> dict:
    return json.loads((root / FOLDER / "audit/audit.json").read_text())


def settings(root: Path, **changes: object) -> Settings:
    return Settings(competition="my-digits", folds=2, recipe="smoke", root=root, **changes)


class Report(HTMLParser):
    """The figures and pictures of a report."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: dict[str, str] = {}
        self.pictures: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self._key: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._key = values.get("data-key")
        self.addresses += [values[name] or "" for name in ("src", "href") if name in values]
        if tag == "img":
            self.pictures.append(values)

    def handle_data(self, data: str) -> None:
        if self._key:
            self.figures[self._key] = data
            self._key = None


def read_report(root: Path) -> Report:
    return Report((root / FOLDER / "audit/report.html").read_text())


def test_planted_copies_and_their_labels_are_reported(
    before_training: tuple[str, dict],
) -> None:
    printed, found = before_training
    exact = [c for c in found["duplicates"]["clusters"] if c["exact"]]

    assert [[image["id"] for image in cluster["images"]] for cluster in exact] == [
        ["0001", "0100", "0200"],
        ["0002", "0300"],
        ["0005", "0610"],
    ]
    assert [cluster["conflicting_labels"] for cluster in exact] == [False, True, False]
    assert found["files"]["sizes"] == [{"name": "8 x 8 grey", "train": 600, "test": 20}]
    assert sum(row["images"] for row in found["classes"]) == 600
    assert found["shift"]["auc"] is not None
    assert "next: look at the copies with different labels" in printed


def test_without_a_run_it_says_what_to_run(before_training: tuple[str, dict]) -> None:
    printed, found = before_training

    assert found["suspects"]["run"] is None
    assert found["suspects"]["ranked"] == []
    assert "no finished run of these images: make train, then make audit" in printed


def test_the_report_shows_the_figures_of_the_json_and_needs_nothing_else(
    checkout: Path, audited_twice: list[list[bytes]]
) -> None:
    found, report = findings(checkout), read_report(checkout)

    for key, value in report.figures.items():
        if key == "auc":
            assert value == f"{found['shift']['auc']:.4f}"
        elif key in {"suspects", "confident"}:
            assert value == str(found["suspects"]["count" if key == "suspects" else key])
        else:
            assert value == str(found["duplicates"][key])
    assert len(report.figures) == 11
    assert report.addresses
    assert all(address.startswith("data:image/png;base64,") for address in report.addresses)
    assert all(picture["alt"] for picture in report.pictures)
    shown = sum("predicted" in str(picture["alt"]) for picture in report.pictures)
    assert shown == min(40, found["suspects"]["count"]) > 0


def test_a_run_ranks_suspect_labels(checkout: Path, audited_twice: list[list[bytes]]) -> None:
    suspects = findings(checkout)["suspects"]

    (run,) = (path.parent for path in (checkout / FOLDER).glob("*/oof.csv"))
    assert suspects["run"] == run.name
    assert suspects["labels"] == 600
    scores = [suspect["score"] for suspect in suspects["ranked"]]
    assert scores == sorted(scores)
    out_of_fold = pd.read_csv(run / "oof.csv", dtype={"id": str}).set_index("id")
    first = suspects["ranked"][0]
    assert first["confidence"] == pytest.approx(
        out_of_fold.loc[first["id"], first["label"]], abs=1e-6
    )


def test_the_same_audit_twice_is_the_same_bytes(audited_twice: list[list[bytes]]) -> None:
    assert audited_twice[0] == audited_twice[1]


def test_folds_keep_copies_together_until_the_list_is_removed(
    checkout: Path, trained: Outcome
) -> None:
    listed = checkout / "data/my-digits/duplicates.csv"
    old_maps = set((checkout / "data/my-digits/folds").iterdir())
    assert run_here(checkout, "audit", *OPTIONS, "--group").code == 0
    group_of = pd.read_csv(listed, dtype=str).set_index("id")["group"]
    assert group_of["0001"] == group_of["0100"] == group_of["0200"]
    assert "0005" not in group_of  # its copy is a test image

    grouped = run_here(checkout, "train", *OPTIONS)
    (new_map,) = set((checkout / "data/my-digits/folds").iterdir()) - old_maps
    listed.unlink()
    again = run_here(checkout, "train", *OPTIONS)

    assert "folds keep the copies listed in" in grouped.output
    fold_of = pd.read_csv(new_map, dtype=str).set_index("id")["fold"]
    assert fold_of[group_of.index].groupby(group_of).nunique().eq(1).all()
    assert "up to date" in again.output
    assert "folds keep" not in again.output
    assert len(list((checkout / "data/my-digits/folds").iterdir())) == len(old_maps) + 1


def test_runs_that_are_not_finished_or_not_there_are_refused(
    checkout: Path, trained: Outcome
) -> None:
    with pytest.raises(
        ConfigError, match=r"RUN='nothing' is no run of 'my-digits'; there are: subkernel-"
    ):
        audit(replace(settings(checkout), run="nothing"), group=False)


def test_a_run_of_other_images_is_passed_over_and_a_list_of_copies_of_them_written_anew(
    checkout: Path, trained: Outcome, tmp_path: Path
) -> None:
    """Its score may be the best for ever: images were removed since, as the audit advises."""
    shutil.copytree(checkout, tmp_path / "copy")
    raw = tmp_path / "copy/data/my-digits/raw"
    labels = pd.read_csv(raw / "train.csv", dtype=str)
    labels[labels["id"] != WRONG].to_csv(raw / "train.csv", index=False)
    (raw / f"train/{WRONG}.png").unlink()
    listed = tmp_path / "copy/data/my-digits/duplicates.csv"
    listed.write_text(f"id,group\n0002,copies0\n{WRONG},copies0\n")

    audit(settings(tmp_path / "copy"), group=True)

    found = findings(tmp_path / "copy")
    assert found["images"]["train"] == 599
    assert found["suspects"]["run"] is None
    assert found["duplicates"]["folds"].startswith("those of 2-seed0-")
    assert found["duplicates"]["train_images_with_copy_in_another_fold"] == 0
    assert {"0001", "0100", "0200"} <= {*pd.read_csv(listed, dtype=str)["id"]}


def test_predictions_of_other_images_are_refused(checkout: Path, trained: Outcome) -> None:
    path = next((checkout / FOLDER).glob("*/oof.csv"))
    whole = path.read_text()
    written = (checkout / FOLDER / "audit/audit.json").read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_text("".join(lines[:1] + lines[2:]))
    try:
        with pytest.raises(DataError, match=r"oof.csv holds 599 images, and 1 of .* '0000'"):
            audit(replace(settings(checkout), run=path.parent.name), group=False)
    finally:
        path.write_text(whole)
    assert (checkout / FOLDER / "audit/audit.json").read_bytes() == written
