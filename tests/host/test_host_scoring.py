from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pipeline.competition import Competition, DataSpec, SubmissionSpec
from pipeline.host.scoring import Verdict, metric_of, score_submission

PETS = Competition(slug="pets", metric="accuracy", classes=("cat", "dog"))
LOG_LOSS = replace(PETS, metric="log_loss", submission=SubmissionSpec(values="probabilities"))
SOLUTION = pd.DataFrame(
    {"label": ["cat", "dog", "dog", "cat"], "public": [True, True, False, False]},
    index=pd.Index(["1", "2", "3", "4"], name="id"),
)

SEVERAL = Competition(
    slug="pets",
    metric="macro_f1",
    classes=("cat", "dog", "cow"),
    multi_label=True,
    submission=SubmissionSpec(values="labels"),
)
RANKING = replace(SEVERAL, metric="map@3", multi_label=None)


@pytest.fixture
def score(tmp_path: Path) -> object:
    def score(
        content: bytes | str, competition: Competition = PETS, labels: Sequence[str] = ()
    ) -> Verdict:
        path = tmp_path / "submission.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        solution = SOLUTION.assign(label=labels) if labels else SOLUTION
        return score_submission(path, competition, solution)

    return score


def test_accuracy_in_any_row_and_column_order_with_a_bom(score) -> None:
    verdict = score("\ufefflabel,id\ndog,3\ncat,1\ncat,2\ndog,4\n")
    assert verdict == Verdict(public=0.5, private=0.5)


def test_log_loss_takes_a_column_per_class(score) -> None:
    competition = replace(LOG_LOSS, classes=("dog", "cat"))
    verdict = score("id,dog,cat\n1,0.5,0.5\n2,0.5,0.5\n3,0.75,0.25\n4,0.75,0.25\n", competition)
    assert verdict.public == pytest.approx(0.693147, abs=1e-6)
    assert verdict.private == pytest.approx((0.287682 + 1.386294) / 2, abs=1e-6)


def test_roc_auc_takes_the_probability_of_the_positive_class(score) -> None:
    spec = SubmissionSpec(values="probability", positive="cat")
    competition = replace(PETS, metric="roc_auc", submission=spec)
    verdict = score("id,label\n1,0.9\n2,0.1\n3,0.8\n4,0.2\n", competition)
    assert verdict == Verdict(public=1.0, private=0.0)


def test_quadratic_kappa_takes_the_classes_order_for_their_distance(score) -> None:
    grades = replace(PETS, metric="quadratic_kappa", classes=("good", "fair", "poor"))
    content = "id,label\n1,good\n2,fair\n3,fair\n4,good\n"
    verdict = score(content, grades, ["good", "poor", "poor", "good"])
    # One of two images is one grade off: 1 - (1/2) / ((1 + 4 + 0 + 1) / 4).
    assert verdict == Verdict(public=pytest.approx(2 / 3), private=pytest.approx(2 / 3))


def test_balanced_accuracy_of_class_numbers(score) -> None:
    spec = SubmissionSpec(values="index")
    competition = replace(PETS, metric="balanced_accuracy", submission=spec)
    assert score("id,label\n1,0\n2,0\n3,1\n4,0\n", competition) == Verdict(0.5, 1.0)


def test_a_ranking_may_be_shorter_than_the_metric_allows(score) -> None:
    verdict = score("id,label\n1,cat\n2,cow dog\n3,cat\n4,dog cow cat\n", RANKING)
    assert verdict == Verdict(public=0.75, private=pytest.approx(1 / 6))


def test_macro_f1_of_several_labels_in_a_cell(score) -> None:
    truth = ["cat dog", "", "dog", "cat cow"]
    verdict = score("id,label\n1,dog cat\n2,cow\n3,dog\n4,cow\n", SEVERAL, truth)
    # Public: cat and dog are right, the cow is not there. Private: the cat is not found.
    assert verdict == Verdict(public=pytest.approx(2 / 3), private=pytest.approx(2 / 3))
    assert score("id,label\n1,dog cat\n2,\n3,dog\n4,cow cat\n", SEVERAL, truth).private == 1.0


def test_the_separator_is_that_of_the_training_labels(score) -> None:
    competition = replace(SEVERAL, data=DataSpec(label_separator="|"))
    truth = ["cat|dog", "cow", "dog|cow", "cat"]
    content = "id,label\n1,dog|cat\n2,cow\n3,dog|cow\n4,cat\n"
    assert score(content, competition, truth) == Verdict(1.0, 1.0)


def test_micro_f1_of_a_column_of_indicators_per_class(score) -> None:
    competition = replace(
        SEVERAL, metric="micro_f1", submission=SubmissionSpec(values="indicators")
    )
    truth = ["cat dog", "", "dog", "cat cow"]
    content = "id,cow,cat,dog\n1,0,1,1\n2,1,0,0\n3,0,0,1\n4,0,1,1\n"
    verdict = score(content, competition, truth)
    # Public: 2 right, 1 false. Private: 2 right, 1 false, 1 not found.
    assert verdict == Verdict(public=pytest.approx(0.8), private=pytest.approx(2 / 3))
    wrong = score(content.replace("3,0,0,1", "3,0,0,1.0"), competition, truth)
    assert wrong.error == "1 rows have a value that is neither 0 nor 1, first id '3'"


def test_probabilities_of_several_labels_need_not_add_up(score) -> None:
    competition = replace(
        SEVERAL, metric="log_loss", submission=SubmissionSpec(values="probabilities")
    )
    rows = "id,cat,dog,cow\n1,0.5,0.5,0.5\n2,0.5,0.5,0.5\n3,1,1,0\n4,0,0,0\n"
    verdict = score(rows, competition, ["cat", "", "cat dog", ""])
    assert verdict.public == pytest.approx(0.693147, abs=1e-6)
    assert verdict.private == pytest.approx(0, abs=1e-6)


def test_the_direction_is_the_metrics() -> None:
    assert not metric_of(LOG_LOSS).greater_is_better
    assert metric_of(SEVERAL).greater_is_better
    assert metric_of(Competition(slug="pets")).greater_is_better


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ("cat bird", "1 cells hold a label that is not one of cat, dog, cow, first id '3' "),
        ("cat  dog", "1 cells hold a label that is not one of cat, dog, cow, first id '3' "),
        ("dog cat dog", "1 cells repeat a label, first id '3' ('dog cat dog')"),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_unscorable_cells(score, cell: str, error: str, several: bool) -> None:
    content = f"id,label\n1,cat\n2,dog\n3,{cell}\n4,cat\n"
    assert score(content, SEVERAL if several else RANKING).error.startswith(error)


@pytest.mark.parametrize("cell", ["", "cat dog cow"])
def test_a_ranking_has_at_least_one_label_and_no_more_than_the_metric_takes(score, cell) -> None:
    competition = replace(RANKING, metric="map@2")
    error = score(f"id,label\n1,cat\n2,{cell}\n3,dog\n4,cat\n", competition).error
    assert error.startswith("1 cells do not hold 1 to 2 labels, first id '2'")


@pytest.mark.parametrize("truth", [["cat", "cat", "dog", "cat"], ["cat", "dog", "dog", "dog"]])
def test_a_metric_that_is_undefined_on_a_part_is_an_error(score, truth: list[str]) -> None:
    spec = SubmissionSpec(values="probability", positive="dog")
    competition = replace(PETS, metric="roc_auc", submission=spec)
    verdict = score("id,label\n1,0.9\n2,0.1\n3,0.8\n4,0.2\n", competition, truth)
    part = "public" if truth[1] == "cat" else "private"
    assert verdict.error.startswith(f"The metric is undefined on the {part} part")
    assert (verdict.public, verdict.private) == (None, None)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "The file is not a CSV in UTF-8: No columns to parse from file"),
        (b"\xff\xfe\x00", "The file is not a CSV in UTF-8"),
        ("id,class\n1,cat\n", "Columns are id, class; expected id, label"),
        ("id,label,more\n1,cat,\n", "Columns are id, label, more; expected id, label"),
        ("id,label\n1,cat,\n2,dog,\n3,dog,\n4,cat,\n", "Rows have more cells than the 2 of the he"),
        ("id,label\n0,1,cat\n1,2,dog\n2,3,dog\n3,4,cat\n", "Rows have more cells than the 2 of"),
        ("id,label\n1,cat\n2,dog\n3,dog\n", "1 ids are missing, first id '4'"),
        ("id,label\n1,cat\n2,dog\n3,dog\n5,dog\n", "1 ids are unknown, first id '5'"),
        ("id,label\n1,cat\n2,dog\n3,dog\n4,cat\n4,cat\n", "1 ids are repeated, first id '4'"),
        ("id,label\n1,cat\n2,dog\n3,\n4,NaN\n", "2 labels are not one of cat, dog, first id '3'"),
    ],
)
def test_unscorable_label_files(score, content: bytes | str, error: str) -> None:
    verdict = score(content)
    assert verdict.error.startswith(error)
    assert (verdict.public, verdict.private) == (None, None)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ("inf,0", "1 rows have a value that is not a probability in [0, 1], first id '3'"),
        (",1", "1 rows have a value that is not a probability in [0, 1], first id '3'"),
        ("-0.1,1.1", "1 rows have a value that is not a probability in [0, 1], first id '3'"),
        ("0.4,0.4", "1 rows have probabilities that do not add up to 1, first id '3'"),
    ],
)
def test_unscorable_probabilities(score, row: str, error: str) -> None:
    assert score(f"id,cat,dog\n1,1,0\n2,1,0\n3,{row}\n4,1,0\n", LOG_LOSS).error == error
