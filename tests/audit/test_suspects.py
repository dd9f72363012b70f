"""Planted wrong labels come first, for one label per image and for several."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from pipeline.audit.findings import MOST_SUSPECTS, suspect_findings
from pipeline.audit.suspects import label_suspects
from tests.audit.pictures import cache_of

DIGITS = load_digits()
COUNT = len(DIGITS.target)


def out_of_fold(labels):
    model = LogisticRegression(max_iter=200)
    return cross_val_predict(model, DIGITS.data / 16, labels, cv=3, method="predict_proba")


def test_planted_wrong_labels_are_among_the_first_suspects():
    rng = np.random.default_rng(0)
    wrong = rng.choice(COUNT, 90, replace=False)
    labels = DIGITS.target.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, 90)) % 10

    found = label_suspects(labels, out_of_fold(labels))

    assert np.isin(wrong, found["row"][:180]).mean() >= 0.8
    assert found["score"].is_monotonic_increasing
    confident = found[found["confident"]]
    assert 60 <= len(confident) <= 120
    right = DIGITS.target[confident["row"]] == confident["predicted"]
    assert right.mean() > 0.8


def test_planted_wrong_cells_of_several_labels_are_among_the_first_suspects():
    rng = np.random.default_rng(1)
    classes = 4
    truth = np.stack([DIGITS.target == number for number in range(classes)], axis=1)
    wrong = rng.choice(truth.size, 100, replace=False)
    stated = truth.copy()
    stated.flat[wrong] ^= True
    probabilities = np.stack([out_of_fold(column)[:, 1] for column in stated.T], axis=1)

    found = label_suspects(stated, probabilities)

    cells = found["row"] * classes + found["class"]
    assert np.isin(wrong, cells[:200]).mean() >= 0.8
    assert (found["stated"] == stated.flat[cells]).all()
    assert (found["predicted"] == 1 - found["stated"]).all()


def test_a_frequent_class_does_not_make_a_rare_one_suspect():
    """The rare class is always predicted with less confidence; its threshold is lower, too."""
    labels = np.repeat([0, 1], [90, 10])
    probabilities = np.where(labels[:, None] == 0, [0.99, 0.01], [0.55, 0.45])
    probabilities[3] = [0.40, 0.60]

    found = label_suspects(labels, probabilities)

    assert found["row"].tolist() == [3]


def test_suspects_are_named_and_limited():
    images = np.zeros((3000, 8, 8, 1), np.uint8)
    cells = np.tile([True, False], (3000, 1))
    cells[:2] = [False, True]
    probabilities = np.tile([0.3, 0.6], (3000, 1))
    probabilities[:2] = [[0.9, 0.1], [0.8, 0.1]]

    table = label_suspects(cells, probabilities)
    named = suspect_findings(table, cache_of(images, images[:1], cells))

    assert len(table) == 6000
    assert len(named) == MOST_SUSPECTS
    (first, *_) = [suspect for suspect in named if suspect["id"] == "a0"]
    assert (first["label"], first["predicted"]) == ("not cat", "cat")
    assert (first["confidence"], first["predicted_confidence"]) == (0.1, 0.9)


def test_a_class_without_images_is_never_predicted():
    found = label_suspects(np.zeros(9, np.int64), np.tile([0.1, 0.9], (9, 1)))

    assert len(found) == 0
