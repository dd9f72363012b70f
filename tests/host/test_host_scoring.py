from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pipeline.competition import Competition, SubmissionSpec
from pipeline.host.scoring import Verdict, score_submission

PETS = Competition(slug="pets", metric="accuracy", classes=("cat", "dog"))
SOLUTION = pd.DataFrame(
    {"label": ["cat", "dog", "dog", "cat"], "public": [True, True, False, False]},
    index=pd.Index(["1", "2", "3", "4"], name="id"),
)


@pytest.fixture
def score(tmp_path: Path) -> object:
    def score(content: bytes | str, competition: Competition = PETS) -> Verdict:
        path = tmp_path / "submission.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return score_submission(path, competition, SOLUTION)

    return score


def test_accuracy_in_any_row_and_column_order_with_a_bom(score) -> None:
    verdict = score("\ufefflabel,id\ndog,3\ncat,1\ncat,2\ndog,4\n")
    assert verdict == Verdict(public=0.5, private=0.5)


def test_log_loss_takes_a_column_per_class(score) -> None:
    competition = replace(PETS, metric="log_loss", classes=("dog", "cat"))
    verdict = score("id,dog,cat\n1,0.5,0.5\n2,0.5,0.5\n3,0.75,0.25\n4,0.75,0.25\n", competition)
    assert verdict.public == pytest.approx(0.693147, abs=1e-6)
    assert verdict.private == pytest.approx((0.287682 + 1.386294) / 2, abs=1e-6)


def test_roc_auc_takes_the_probability_of_the_positive_class(score) -> None:
    competition = replace(PETS, metric="roc_auc", submission=SubmissionSpec(positive="cat"))
    verdict = score("id,label\n1,0.9\n2,0.1\n3,0.8\n4,0.2\n", competition)
    assert verdict == Verdict(public=1.0, private=0.0)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "The file is not a CSV in UTF-8: No columns to parse from file"),
        (b"\xff\xfe\x00", "The file is not a CSV in UTF-8"),
        ("id,class\n1,cat\n", "Columns are id, class; expected id, label"),
        ("id,label,more\n1,cat,\n", "Columns are id, label, more; expected id, label"),
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
    competition = replace(PETS, metric="log_loss")
    assert score(f"id,cat,dog\n1,1,0\n2,1,0\n3,{row}\n4,1,0\n", competition).error == error
