"""What the page says of answers is what scikit-learn says of them."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score

from pipeline.report.answers import (
    MISTAKES_SHOWN,
    Answered,
    class_scores,
    confident_mistakes,
    confusion,
)


def answered(images=300, classes=4, several=False):
    generator = np.random.default_rng(0)
    table = generator.dirichlet(np.ones(classes), images)
    truth = (table + 0.2 * generator.random(table.shape)).argmax(1)
    decided = table.argmax(1)
    if several:
        truth, decided = generator.random(table.shape) < table, table >= 0.5
    return Answered(
        ids=[f"i{n}" for n in range(images)],
        classes=[f"c{n}" for n in range(classes)],
        truth=truth,
        probabilities=table,
        decided=decided,
    )


@pytest.mark.parametrize("several", [False, True])
def test_scores_per_class_are_scikit_learns(several):
    given = answered(several=several)
    rows = class_scores(given)

    pair = (given.truth, given.decided)
    for key, compute in (("precision", precision_score), ("recall", recall_score)):
        expected = compute(*pair, average=None, zero_division=0)
        assert [row[key] for row in rows] == expected.tolist()
    assert [row["f1"] for row in rows] == f1_score(*pair, average=None, zero_division=0).tolist()
    assert sum(row["support"] for row in rows) == (given.truth.sum() if several else 300)


def test_a_class_that_nothing_is_of_has_a_row():
    given = answered(classes=4)
    given.truth[given.truth == 3] = 2
    given.decided[given.decided == 3] = 2

    assert class_scores(given)[3] == {
        "class": "c3", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0
    }  # fmt: skip
    assert confusion(given)["rows"][3]["shares"] == [0, 0, 0, 0]


def test_few_classes_give_a_matrix_and_many_its_largest_pairs():
    few, many = answered(), answered(images=2000, classes=21)

    matrix = [row["counts"] for row in confusion(few)["rows"]]
    pairs = confusion(many)

    assert matrix == confusion_matrix(few.truth, few.decided).tolist()
    assert pairs["kind"] == "pairs"
    wrong = confusion_matrix(many.truth, many.decided)
    np.fill_diagonal(wrong, 0)
    assert pairs["rows"][0]["count"] == wrong.max()
    first = pairs["rows"][0]
    row, column = int(first["truth"][1:]), int(first["answer"][1:])
    assert wrong[row, column] == first["count"]
    assert first["share"] == first["count"] / (many.truth == row).sum()
    counts = [pair["count"] for pair in pairs["rows"]]
    assert counts == sorted(counts, reverse=True)


def test_several_labels_are_counted_label_by_label():
    given = answered(several=True)
    row = confusion(given)["rows"][1]

    truth, decided = given.truth[:, 1], given.decided[:, 1]
    assert row["true_positive"] == (truth & decided).sum()
    assert row["false_positive"] == (~truth & decided).sum()
    assert row["false_negative"] == (truth & ~decided).sum()
    assert row["true_negative"] == (~truth & ~decided).sum()


@pytest.mark.parametrize("several", [False, True])
def test_the_surest_mistakes_come_first_and_are_mistakes(several):
    given = answered(several=several)
    mistakes = confident_mistakes(given)

    sure = [mistake["confidence"] for mistake in mistakes]
    assert len(mistakes) == MISTAKES_SHOWN
    assert sure == sorted(sure, reverse=True)
    assert all(mistake["truth"] != mistake["answer"] for mistake in mistakes)
    wrong = given.decided != given.truth
    table = given.probabilities
    of_decided = np.where(given.decided, table, 1 - table) if several else table.max(1)
    expected = of_decided[wrong].max()
    assert sure[0] == expected
    assert given.ids[mistakes[0]["row"]] == mistakes[0]["id"]


def test_without_a_mistake_none_is_shown():
    given = answered()
    given.truth[:] = given.decided

    assert confident_mistakes(given) == []
