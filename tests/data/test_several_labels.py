"""Images with several labels, and rankings: from the label file to the submission and its check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.competition import Competition, DataSpec
from pipeline.data.cache import build_cache, load_cache
from pipeline.data.layouts import RawDataset, read_layout
from pipeline.data.submission import check_submission, read_form, submission_csv
from pipeline.errors import ConfigError, DataError, SubmissionError
from pipeline.metrics import Decision, default_decision

SEPARATED = Competition(slug="pets", data=DataSpec(label_separator=" "))
CLASSES = ("bird", "cat", "dog")
IDS = ["1", "2", "3"]
LIKELY = pd.DataFrame(
    [[0.9, 0.8, 0.1], [0.1, 0.2, 0.3], [0.2, 0.6, 0.7]], index=IDS, columns=list(CLASSES)
)


def put(root: Path, train_csv: str, sample: str) -> Path:
    for name in ("train/a", "train/b", "train/c", "train/d", "test/1", "test/2", "test/3"):
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    (root / "train.csv").write_text(train_csv)
    (root / "sample_submission.csv").write_text(sample)
    return root


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    rows = "id,labels\na,cat dog\nb,\nc,bird\nd,dog cat bird\n"
    return put(tmp_path, rows, "id,labels\n1,cat\n2,cat\n3,cat\n")


@pytest.fixture
def columns(tmp_path: Path) -> Path:
    rows = "id,dog,cat,bird\na,1,1,0\nb,0,0,0\nc,0,0,1\nd,1.0,1,1\n"
    return put(tmp_path, rows, "id,dog,cat,bird\n1,0,0,0\n2,0,0,0\n3,0,0,0\n")


def labels_of(dataset: RawDataset, folder: Path) -> list[list[str]]:
    """The names that the cache holds of each image."""
    build_cache(dataset, folder)
    cache = load_cache(folder)
    assert cache.multi_label
    rows = cache.train.known_labels().numpy()
    return [[name for name, one in zip(cache.classes, row, strict=True) if one] for row in rows]


def test_several_labels_in_one_cell(cells: Path, tmp_path: Path) -> None:
    dataset = read_layout(cells, SEPARATED)

    (tmp_path / "cache").mkdir()
    assert dataset.competition.multi_label
    assert dataset.classes == CLASSES
    assert labels_of(dataset, tmp_path / "cache") == [["cat", "dog"], [], ["bird"], [*CLASSES]]


def test_a_column_of_0_and_1_per_class(columns: Path, tmp_path: Path) -> None:
    dataset = read_layout(columns, Competition(slug="pets"))

    (tmp_path / "cache").mkdir()
    assert dataset.classes == ("dog", "cat", "bird")
    assert labels_of(dataset, tmp_path / "cache") == [
        ["dog", "cat"],
        [],
        ["bird"],
        ["dog", "cat", "bird"],
    ]


def test_one_1_in_every_row_is_one_label_each(columns: Path) -> None:
    rows = "id,dog,cat,bird\na,1,0,0\nb,0,1,0\nc,0,0,1\nd,0,0,1\n"
    (columns / "train.csv").write_text(rows)

    single = read_layout(columns, Competition(slug="pets"))
    several = read_layout(columns, Competition(slug="pets", multi_label=True))

    assert single.train.labels == ["dog", "cat", "bird", "bird"]
    assert (single.competition.multi_label, several.competition.multi_label) == (False, True)


@pytest.mark.parametrize(
    ("train", "definition", "words"),
    [
        (
            "id,labels\na,cat dog\nb,cow\nc,bird cow\nd,cat\n",
            replace(SEPARATED, classes=CLASSES),
            r"2 training labels are none of the 3 classes \(bird, cat, dog\), first 'cow' of id "
            "'b'",
        ),
        (
            "id,labels\na,cat dog\nb,\nc,bird\nd,cat\n",
            replace(SEPARATED, multi_label=False),
            "2 training images have none or several labels, first id 'a'",
        ),
    ],
)
def test_wrong_cells_are_named(
    cells: Path, train: str, definition: Competition, words: str
) -> None:
    (cells / "train.csv").write_text(train)

    with pytest.raises(DataError, match=words):
        read_layout(cells, definition)


def test_wrong_columns_are_named(columns: Path) -> None:
    (columns / "train.csv").write_text("id,dog,cat,bird\na,1,0,0\nb,0,2,0\nc,0,x,1\nd,0,0,1\n")

    with pytest.raises(
        DataError, match=r"2 values .* neither 0 nor 1, first '2' of id 'b' in 'cat'"
    ):
        read_layout(columns, Competition(slug="pets"))
    absent = Competition(slug="pets", data=DataSpec(label_columns=("cow", "cat")))
    with pytest.raises(ConfigError, match=r"no column 'cow'; set `\[data\] label_columns`"):
        read_layout(columns, absent)


def written(root: Path, competition: Competition, decision: Decision) -> tuple[list[str], Path]:
    """The submission's lines in the sample's form, and the file, which passes the check."""
    classes = competition.classes or CLASSES
    form = read_form(root, replace(competition, classes=classes), classes, IDS)
    path = root / "run" / "1" / "submission.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(submission_csv(form, LIKELY, decision, Path("test.csv")))
    check_submission(path, form)
    return path.read_text().splitlines()[1:], path


def test_several_labels_are_written_in_one_cell(cells: Path) -> None:
    competition = replace(SEPARATED, multi_label=True, metric="macro_f1")

    usual, _ = written(cells, competition, default_decision(3, multi_label=True))
    lower, _ = written(cells, competition, Decision("thresholds", (0.1, 0.7, 0.3)))

    assert usual == ["1,bird cat", "2,", "3,cat dog"]
    assert lower == ["1,bird cat", "2,bird dog", "3,bird dog"]


def test_columns_of_0_and_1_are_written_in_the_samples_order(columns: Path) -> None:
    competition = Competition(slug="pets", multi_label=True, metric="micro_f1")

    lines, _ = written(columns, competition, Decision("thresholds", (0.1, 0.7, 0.3)))

    assert lines == ["1,0,1,1", "2,1,0,1", "3,1,0,1"]


def test_probabilities_of_several_labels_need_not_add_up_to_1(columns: Path) -> None:
    competition = Competition(slug="pets", multi_label=True, metric="log_loss")

    lines, _ = written(columns, competition, default_decision(3, multi_label=True))

    assert lines[0] == "1,0.1,0.8,0.9"


def test_a_ranking_is_written_best_first(cells: Path) -> None:
    competition = Competition(slug="pets", metric="map@2")

    lines, _ = written(cells, competition, Decision("argmax"))

    assert lines == ["1,bird cat", "2,dog cat", "3,dog cat"]


@pytest.mark.parametrize(
    ("metric", "cell", "words"),
    [
        ("macro_f1", "cat cow", "a name that is no class: 1 of 3, first id '2'"),
        ("macro_f1", "cat  dog", "a name that is no class"),
        ("macro_f1", "cat cat", "name a class twice: 1 of 3"),
        ("map@2", "cat dog bird", "do not name 1 to 2 classes: 1 of 3, first id '2'"),
        ("map@2", "", "do not name 1 to 2 classes"),
    ],
)
def test_wrong_cells_of_a_submission_are_refused(
    cells: Path, metric: str, cell: str, words: str
) -> None:
    competition = replace(SEPARATED, metric=metric, multi_label=metric == "macro_f1")
    form = read_form(cells, replace(competition, classes=CLASSES), CLASSES, IDS)
    path = cells / "submission.csv"
    path.write_text(f"id,labels\n1,bird\n2,{cell}\n3,cat dog\n")

    with pytest.raises(SubmissionError, match=words):
        check_submission(path, form)


def test_what_the_metric_cannot_score_is_asked_for(columns: Path) -> None:
    one_label = Competition(slug="pets", metric="accuracy", classes=CLASSES)

    with pytest.raises(ConfigError, match="values are 'probabilities', which metric accuracy"):
        read_form(columns, one_label, CLASSES, IDS)


def test_names_that_hold_the_separator_are_refused_before_training(cells: Path) -> None:
    classes = ("grey cat", "red cat", "dog")
    spaced = Competition(slug="pets", metric="map@2", classes=classes, multi_label=False)

    with pytest.raises(ConfigError, match=r"2 of 3 class names hold ' ', .* first 'grey cat'; set"):
        read_form(cells, spaced, classes, IDS)

    commas = replace(spaced, data=DataSpec(label_separator=","))
    form = read_form(cells, commas, classes, IDS)
    likely = LIKELY.set_axis(list(classes), axis=1)
    lines = submission_csv(form, likely, Decision("argmax"), Path("test.csv")).decode().split("\n")
    assert lines[1] == '1,"grey cat,red cat"'


def test_a_decision_in_another_order_of_classes() -> None:
    likely = np.array([[0.5, 0.3, 0.2]])
    decision = Decision("weights", (1, 2, 1))

    assert decision.decide(likely) == [1]
    assert decision.reordered([2, 0, 1]).decide(likely[:, [1, 2, 0]]) == [0]
    with pytest.raises(ConfigError, match="cuts hold for classes in the order"):
        Decision("cuts", (0.5, 1.5)).reordered([2, 0, 1])
