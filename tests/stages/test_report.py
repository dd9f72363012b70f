"""The page of a run, and of all runs, as a user makes them: every number is in the run's files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss

from pipeline.artifacts import read_json
from pipeline.client.ledger import Ledger, Upload
from pipeline.data.cache import load_cache
from pipeline.errors import ConfigError, DataError
from pipeline.stages.audit import audit
from pipeline.stages.chain import run_until
from pipeline.stages.members import Member
from pipeline.stages.refine import blend, calibrate, thresholds
from pipeline.stages.report import report
from pipeline.stages.report_facts import epochs_of, made_by, made_facts, views_facts
from pipeline.stages.settings import Settings
from tests.report.browser import DESKTOP, PHONE, Browser, open_browser
from tests.report.pages import Page
from tests.stages.commands import run_here, write_digit_images
from tests.stages.refining import Refinery


@pytest.fixture(scope="module")
def refinery(small_runs: Refinery, tmp_path_factory: pytest.TempPathFactory) -> Refinery:
    """Two trained runs on digits with three uploads in the ledger, and a blend of the two."""
    made = small_runs.copy(tmp_path_factory.mktemp("report") / "checkout")
    blend(made.settings, ",".join(made.runs), "equal")
    ledger = Ledger(made.settings.workspace.ledger)
    names = [*made.runs, next(made.folder("").glob("blend-*")).name]
    for place, (name, public) in enumerate(zip(names, (0.91, 0.93, 0.92), strict=True)):
        ledger.append(upload(made, name, ref=place, public_score=public))
    return Refinery(made.settings, tuple(names))


def upload(refinery: Refinery, name: str, **values: object) -> Upload:
    cv = refinery.record(name)["cv"]
    scored = {"private_score": None, "status": "COMPLETE", "submitted_at": "2026-01-01T00:00:00Z"}
    return Upload(
        competition="digits", run=name, file_sha256=name, predictions_sha256=name, host="local",
        instance="here", commit=None, cv_mean=cv["mean"], cv_std=cv["std"], **scored, **values,
    )  # fmt: skip


@pytest.fixture
def root(refinery: Refinery, tmp_path: Path) -> Path:
    """A copy of the checkout to spoil."""
    shutil.copytree(refinery.settings.root, tmp_path / "copy")
    return tmp_path / "copy"


def truth_and_probabilities(refinery: Refinery, name: str) -> tuple[np.ndarray, np.ndarray, list]:
    """From the run's own files, joined by id."""
    record = refinery.record(name)
    data = load_cache(refinery.settings.workspace.caches("digits") / record["cache"])
    labels = pd.Series(data.train.labels.tolist(), index=data.train.ids)
    table = pd.read_csv(refinery.folder(name) / "oof.csv", dtype={"id": str}).set_index("id")
    return labels.loc[table.index].to_numpy(), table.to_numpy(), table.index.tolist()


def test_every_number_is_that_of_the_runs_files(refinery: Refinery) -> None:
    name = refinery.runs[0]
    record = refinery.record(name)
    page = Page(report(refinery.with_run(name)))
    truth, table, ids = truth_and_probabilities(refinery, name)
    decided = table.argmax(1)

    assert page.number("cv.mean") == record["cv"]["mean"]
    assert page.number("cv.std") == record["cv"]["std"]
    assert page.numbers("fold", "score") == record["cv"]["folds"]
    assert page.number("seconds.train") == record["seconds"]["train"]
    assert page.number("upload.0.public") == 0.91
    counts = np.array([page.values[f"confusion.{n}"] for n in range(10)], dtype=int).T
    assert (counts == confusion_matrix(truth, decided)).all()
    assert page.numbers("class", "f1") == f1_score(truth, decided, average=None).tolist()
    assert page.numbers("class", "support") == np.bincount(truth).tolist()
    assert page.number("calibration.error") == pytest.approx(expected_error(truth, table))
    wrong = np.flatnonzero(decided != truth)
    surest = wrong[np.argsort(-table.max(1)[wrong], kind="stable")][:24]
    assert page.numbers("mistake", "confidence") == table.max(1)[surest].tolist()
    shown = [page.values[f"mistake.{place}"][0] for place in range(len(surest))]
    assert shown == [ids[row] for row in surest]
    assert len(page.pictures) == len(surest)
    for key, texts in page.shown.items():
        for value, text in zip(page.values[key], texts, strict=True):
            is_number = value and not key.removeprefix("mistake.").isdigit()
            assert not is_number or float(text) == pytest.approx(float(value), abs=0.051)


def expected_error(truth: np.ndarray, table: np.ndarray) -> float:
    """By pandas, in 15 bins that hold their upper edges."""
    answers = pd.DataFrame({"sure": table.max(1), "right": table.argmax(1) == truth})
    bins = answers.groupby(pd.cut(answers["sure"], np.arange(16) / 15), observed=True)
    means = bins.mean()
    return float((bins.size() * (means["right"] - means["sure"]).abs()).sum() / len(answers))


def test_the_folds_their_memory_and_what_views_gain_are_those_of_the_metrics(
    refinery: Refinery,
) -> None:
    name = refinery.runs[1]
    page = Page(report(refinery.with_run(name)))
    truth, table, ids = truth_and_probabilities(refinery, name)
    folds = pd.read_csv(refinery.folder(name) / "folds.csv", dtype={"id": str})
    of_id = folds.set_index("id")["fold"].loc[ids].to_numpy()
    gains = []
    for number in range(3):
        path = refinery.folder(name) / f"fold{number}/metrics.jsonl"
        epochs = [json.loads(line) for line in path.read_text().splitlines()]
        assert page.number(f"fold.{number}.train_loss") == epochs[-1]["train_loss"]
        assert page.number(f"fold.{number}.epochs") == 3
        assert page.number(f"fold.{number}.seconds") == sum(each["seconds"] for each in epochs)
        peak = max(each["peak_memory"] for each in epochs)
        assert page.number(f"fold.{number}.peak_memory") == peak / 2**20 > 50
        rows = of_id == number
        accuracy = accuracy_score(truth[rows], table[rows].argmax(1))
        loss = log_loss(truth[rows], table[rows] / table[rows].sum(1, keepdims=True))
        assert page.number(f"views.{number}.accuracy") == pytest.approx(accuracy)
        assert page.number(f"views.{number}.loss") == pytest.approx(loss)
        assert page.number(f"views.{number}.plain_accuracy") == epochs[-1]["valid_accuracy"]
        gains.append(accuracy - epochs[-1]["valid_accuracy"])

    assert page.number("views.accuracy.mean") == pytest.approx(np.mean(gains))
    noise = 2 * np.std(gains, ddof=1) / np.sqrt(3)
    assert page.number("views.accuracy.noise") == pytest.approx(noise)
    assert "averaged over 3 views" in page.text


def a_member(refinery: Refinery, **of_recipe: object) -> Member:
    name = refinery.runs[0]
    record = refinery.record(name)
    record["recipe"] |= of_recipe
    data = load_cache(refinery.settings.workspace.caches("digits") / record["cache"])
    return Member(refinery.folder(name), record, data)


def test_views_are_compared_with_the_plain_predictions_of_the_epoch_that_is_kept(
    refinery: Refinery,
) -> None:
    member = a_member(refinery)
    epochs = epochs_of(member)
    for of_fold in epochs:
        of_fold[0]["kept"] = True

    facts, _ = views_facts(member, epochs)

    assert facts is not None
    plain = [fold["plain_loss"] for fold in facts["folds"]]
    assert plain == [of_fold[0]["valid_loss"] for of_fold in epochs]


def test_where_there_is_one_view_alone_nothing_is_said_to_be_gained(refinery: Refinery) -> None:
    member = a_member(refinery, max_shift=0.0)

    facts, note = views_facts(member, epochs_of(member))

    assert facts is None
    assert "neither shifted nor mirrored" in note


def test_a_run_of_an_earlier_version_has_a_page(root: Path, refinery: Refinery) -> None:
    made = Refinery(replace(refinery.settings, root=root), refinery.runs)
    name = made.runs[0]
    made.change_record(name, engine_version=7, recipe={**made.record(name)["recipe"], "cutmix": 1})

    page = Page(report(made.with_run(name)))

    assert page.number("cv.mean") == made.record(name)["cv"]["mean"]
    assert "with which views it predicted is not known" in page.text
    (made.folder(name) / "test.csv").unlink()
    with pytest.raises(ConfigError, match=r"1 fields of its recipe are gone, first 'cutmix'"):
        run_until("predict", made.with_run(name))


def test_the_command_of_the_page_makes_the_same_run(refinery: Refinery) -> None:
    page = Page(report(replace(refinery.settings, conv="channel-selection")))

    command = "make train COMPETITION=digits CONV=channel-selection RECIPE=smoke FOLDS=3"
    assert f'<code id="command">{command} SET=epochs=3</code>' in page.text
    assert "channel-selection-" in page.text.split("</h1>")[0]
    assert "epochs = 3" in page.text


def test_the_same_run_gives_the_same_bytes(refinery: Refinery) -> None:
    settings = refinery.with_run(refinery.runs[0])

    assert report(settings).read_bytes() == report(settings).read_bytes()


def test_a_blend_shows_its_members_and_its_gain(refinery: Refinery) -> None:
    name = refinery.runs[2]
    page, record = Page(report(refinery.with_run(name))), refinery.record(name)

    assert page.number("gain.mean") == record["gain"]["mean"]
    assert page.number("gain.noise") == record["gain"]["noise"]
    assert f"make blend COMPETITION=digits RUNS={','.join(refinery.runs[:2])} BLEND=equal" in (
        page.text
    )
    assert "Nothing was trained for this run" in page.text
    assert "What several views gain" not in page.text


def test_what_made_a_run_says_that_it_has_pseudo_labels(refinery: Refinery) -> None:
    pseudo = {"from": "subkernel-1", "weights": [], "confidence": 0.9, "labels": [5, 6, 7]}
    record = {**refinery.record(refinery.runs[0]), "pseudo": pseudo}

    facts = dict(made_facts(refinery.settings.workspace, record))

    assert facts["pseudo-labels"] == (
        "of subkernel-1, from probability 0.9 on: 5, 6, 7 test images, by fold"
    )
    assert made_by(record).endswith(", with pseudo-labels of subkernel-1")


def test_all_runs_stand_beside_their_leaderboard_scores(refinery: Refinery) -> None:
    page = Page(report(refinery.settings, every_run=True))
    scores = {name: refinery.record(name)["cv"]["mean"] for name in refinery.runs}

    for name, score in scores.items():
        assert page.number(f"run.{name}.cv.mean") == score
    shown = [key for key in page.values if key.endswith(".cv.mean")]
    best_first = sorted(scores, key=lambda name: -scores[name])
    assert shown == [f"run.{name}.cv.mean" for name in best_first]
    ranks = pd.Series(scores).rank().corr(pd.Series([0.91, 0.93, 0.92], index=scores).rank())
    assert page.number("board.here.public.spearman") == pytest.approx(ranks)
    assert page.number("board.here.public.n") == 3
    assert "Private: " in page.text


def test_the_score_beside_a_run_is_that_of_its_last_upload_to_any_host(
    root: Path, refinery: Refinery
) -> None:
    settings, name = replace(refinery.settings, root=root), refinery.runs[0]
    ledger = Ledger(settings.workspace.ledger)
    elsewhere = upload(refinery, name, ref=7, public_score=0.5)
    ledger.append(replace(elsewhere, host="kaggle", instance="kaggle.com"))
    ledger.append(upload(refinery, name, ref=8, public_score=0.6))

    page = Page(report(settings, every_run=True))

    assert page.number(f"run.{name}.public") == 0.6
    assert page.number(f"point.kaggle.com.{name}.public") == 0.5


def test_few_uploads_or_none_are_said_to_be_so(root: Path, refinery: Refinery) -> None:
    settings = replace(refinery.with_run(refinery.runs[0]), root=root)
    ledger = root / "submissions/ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:2]))
    assert "points are too few for a rank correlation" in report(settings).read_text()

    ledger.unlink()
    page = report(settings).read_text()

    assert "Not uploaded." in page
    assert "Nothing of this competition was uploaded and scored yet." in page


def test_a_temperature_and_a_decision_have_pages_too(root: Path, refinery: Refinery) -> None:
    made = Refinery(replace(refinery.settings, root=root), refinery.runs)
    made.set_metric("macro_f1")
    decided = Page(report(made.with_run(thresholds(made.with_run(made.runs[0])).name)))
    made.ask_for_probabilities()
    cooled = Page(report(made.with_run(calibrate(made.with_run(made.runs[0])).name)))

    assert "less is better" in cooled.text
    assert '<th scope="row">temperature</th>' in cooled.text
    assert "which was fitted on all folds" in decided.text
    record = read_json(next(root.glob("submissions/digits/thresholds-*/run.json")))
    truth, table, _ = truth_and_probabilities(made, record["run"])
    answers = (table * np.array(record["decision"]["values"])).argmax(1)
    counts = np.array([decided.values[f"confusion.{n}"] for n in range(10)], dtype=int).T
    assert (counts == confusion_matrix(truth, answers)).all()


def test_images_with_several_labels_are_counted_by_label(tmp_path: Path) -> None:
    raw = tmp_path / "data/mine/raw"
    write_digit_images(raw, train=200)
    for name in ("train.csv", "sample_submission.csv"):
        table = pd.read_csv(raw / name, dtype=str)
        digit = table["label"].astype(int)
        parity, size = digit.mod(2).map({0: "even", 1: "odd"}), digit.gt(4).map({True: " big"})
        table.assign(label=parity + size.fillna("")).to_csv(raw / name, index=False)
    (tmp_path / "data/mine/competition.toml").write_text('[data]\nlabel_separator = " "\n')
    settings = Settings(competition="mine", recipe="smoke", folds=2, root=tmp_path)
    run_until("train", settings)

    page = Page(report(settings))

    (run,) = (tmp_path / "submissions/mine").glob("*/oof.csv")
    table = pd.read_csv(run, dtype={"id": str}).set_index("id")
    labels = pd.read_csv(raw / "train.csv", dtype=str).set_index("id")["label"]
    truth = labels.loc[table.index].str.get_dummies(" ")[table.columns].to_numpy(bool)
    right = ((table.to_numpy() >= 0.5) & truth).sum(0)
    assert page.numbers("label", "true_positive") == right.tolist()
    assert page.numbers("class", "support") == truth.sum(0).tolist()
    assert page.pictures[0]["alt"]
    assert "every label of every image" in page.text


def test_bad_input_is_refused_in_one_line(root: Path, refinery: Refinery) -> None:
    made = Refinery(replace(refinery.settings, root=root), refinery.runs)
    first, second = made.runs[:2]
    for page in root.rglob("report.html"):
        page.unlink()
    with pytest.raises(ConfigError, match=r"RUN='nothing' is no run of 'digits'; there are: "):
        report(made.with_run("nothing"))
    with pytest.raises(ConfigError, match=r"run 'subkernel-\w+' is not trained; run `make train`"):
        report(replace(made.settings, seed=5))
    with pytest.raises(ConfigError, match="COMPETITION='mnist' has no finished run"):
        report(replace(made.settings, competition="mnist"), every_run=True)
    with pytest.raises(ConfigError, match="COMPETITION='mnist' is not preprocessed"):
        report(replace(made.settings, competition="mnist"))

    shutil.rmtree(made.folder(first) / "fold1")
    with pytest.raises(ConfigError, match=r"1 of 3 folds are missing or incomplete, first .*fold1"):
        report(made.with_run(first))
    path = made.folder(second) / "fold0/metrics.jsonl"
    path.write_text("x" * path.stat().st_size)
    with pytest.raises(DataError, match=r"metrics.jsonl is damaged .* train again"):
        report(made.with_run(second))
    made.change_record(second, competition="mnist")
    with pytest.raises(ConfigError, match="belongs to the competition 'mnist', not 'digits'"):
        report(made.with_run(second))
    shutil.rmtree(root / "data/digits/cache")
    with pytest.raises(ConfigError, match=r"images in .*, which is not here; run `make preproc"):
        report(made.with_run(first))
    assert not list(root.rglob("report.html"))


def test_the_command_writes_both_pages(root: Path, refinery: Refinery) -> None:
    options = ("--competition", "digits", "--run", refinery.runs[0])

    one = run_here(root, "report", *options)
    everything = run_here(root, "report", "--competition", "digits", "--runs", "all")

    assert one.code == everything.code == 0, one.errors + everything.errors
    assert (root / "submissions/digits" / refinery.runs[0] / "report.html").exists()
    assert (root / "submissions/digits/report.html").exists()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(refinery: Refinery) -> list[Path]:
    """One of each kind, the audit's included."""
    audit(refinery.with_run(refinery.runs[0]), group=False)
    return [
        report(refinery.with_run(refinery.runs[0])),
        report(refinery.with_run(refinery.runs[2])),
        report(refinery.settings, every_run=True),
        refinery.folder("audit") / "report.html",
    ]


def test_a_browser_asks_for_nothing_else_and_complains_of_nothing(
    browser: Browser, pages: list[Path]
) -> None:
    for page in pages:
        browser.open(page)

        assert browser.requests() == [page.as_uri()]
        assert browser.complaints() == []
        assert browser.value("[...document.images].every(i => i.alt && i.naturalWidth > 0)")
        assert browser.value(
            "[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label'))"
        )


def test_no_page_is_wider_than_a_phone(browser: Browser, pages: list[Path]) -> None:
    for page in pages:
        browser.open(page, width=PHONE)
        browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")

        assert browser.value("window.innerWidth") == PHONE
        assert browser.value("document.documentElement.scrollWidth") <= PHONE
        boxes = "[...document.querySelectorAll('table')].every(t => t.closest('.wide'))"
        assert browser.value(boxes)


def test_pages_are_dark_where_that_is_preferred(browser: Browser, pages: list[Path]) -> None:
    def luminance(property_name: str) -> float:
        colour = browser.value(f"getComputedStyle(document.body).{property_name}")
        red, green, blue = (int(part) for part in colour.strip("rgb()").split(","))
        return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255

    for page in pages:
        browser.open(page, width=DESKTOP, scheme="dark")
        assert luminance("backgroundColor") < 0.15 < 0.7 < luminance("color")
        browser.open(page, width=DESKTOP, scheme="light")
        assert luminance("backgroundColor") > 0.9 > 0.2 > luminance("color")


def test_tables_sort_by_click_and_by_key(browser: Browser, pages: list[Path]) -> None:
    browser.open(pages[0])
    column = (
        "[...document.querySelectorAll('#classes tbody tr')].map(r => +r.cells[3].dataset.value)"
    )
    before = browser.value(column)
    heading = browser.driver.find_element("css selector", "#classes th:nth-child(4) button")

    heading.click()
    up = browser.value(column)
    heading.send_keys("\ue007")  # Enter
    down = browser.value(column)

    assert before != up == sorted(before)
    assert down == sorted(before, reverse=True)
    assert browser.value("document.querySelector('#classes th:nth-child(4)').ariaSort") == (
        "descending"
    )
