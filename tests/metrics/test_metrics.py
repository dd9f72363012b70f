"""Each metric against its definition, written out, and the rules by which answers are given."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.metrics import (
    Decision,
    check_metric,
    default_decision,
    lower_is_better,
    metric_named,
    metric_names,
    score,
)
from pipeline.metrics.decisions import decision_of, ranked

CLASSES = 4


@pytest.fixture
def single() -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] and probabilities [N, classes] that know something of them."""
    random = np.random.default_rng(0)
    truth = random.integers(0, CLASSES, 300)
    logits = random.normal(size=(300, CLASSES)) + 1.5 * np.eye(CLASSES)[truth]
    likely = np.exp(logits)
    return truth, likely / likely.sum(axis=1, keepdims=True)


@pytest.fixture
def multi() -> tuple[np.ndarray, np.ndarray]:
    """Labels bool [N, classes] and probabilities that know something of them."""
    random = np.random.default_rng(1)
    truth = random.random((300, CLASSES)) < 0.3
    return truth, 1 / (1 + np.exp(-random.normal(size=truth.shape) - 2 * truth + 1))


def f1(truth: np.ndarray, decided: np.ndarray) -> float:
    hits = (truth & decided).sum()
    return 2 * hits / (truth.sum() + decided.sum())


def area(truth: np.ndarray, values: np.ndarray) -> float:
    """The chance that a positive is ranked above a negative."""
    pairs = values[truth][:, None] - values[~truth][None, :]
    return float((pairs > 0).mean() + 0.5 * (pairs == 0).mean())


def test_metrics_of_one_label(single: tuple[np.ndarray, np.ndarray]) -> None:
    truth, likely = single
    decided = likely.argmax(1)
    hits = decided == truth
    of_class = [truth == number for number in range(CLASSES)]
    matrix = np.array([[(decided[rows] == n).mean() for n in range(CLASSES)] for rows in of_class])
    shares = np.array([rows.mean() for rows in of_class])
    distance = (np.arange(CLASSES)[:, None] - np.arange(CLASSES)[None, :]) ** 2
    seen = matrix * shares[:, None]
    by_chance = np.outer(shares, seen.sum(0))
    place = (-likely).argsort(1).argsort(1)[np.arange(len(truth)), truth]
    expected = {
        "accuracy": hits.mean(),
        "balanced_accuracy": np.diag(matrix).mean(),
        "micro_f1": hits.mean(),
        "macro_f1": np.mean([f1(rows, decided == n) for n, rows in enumerate(of_class)]),
        "quadratic_kappa": 1 - (distance * seen).sum() / (distance * by_chance).sum(),
        "log_loss": -np.log(likely[np.arange(len(truth)), truth]).mean(),
        "roc_auc": np.mean([area(rows, likely[:, n]) for n, rows in enumerate(of_class)]),
        "top@2": (place < 2).mean(),
        "map@3": np.where(place < 3, 1 / (1 + place), 0).mean(),
    }

    assert set(expected) - {"top@2", "map@3"} == set(metric_names()) - {"top@K", "map@K"}
    assert {name: score(name, truth, likely) for name in expected} == pytest.approx(expected)


def test_metrics_of_several_labels(multi: tuple[np.ndarray, np.ndarray]) -> None:
    truth, likely = multi
    decided = likely >= 0.5
    expected = {
        "micro_f1": f1(truth, decided),
        "macro_f1": np.mean([f1(*pair) for pair in zip(truth.T, decided.T, strict=True)]),
        "log_loss": -np.log(np.where(truth, likely, 1 - likely)).mean(),
        "roc_auc": np.mean([area(*pair) for pair in zip(truth.T, likely.T, strict=True)]),
    }

    assert {name: score(name, truth, likely) for name in expected} == pytest.approx(expected)


def test_one_probability_of_two_classes(single: tuple[np.ndarray, np.ndarray]) -> None:
    truth, likely = single[0] > 1, single[1][:, 2:].sum(1)

    found = score("roc_auc", truth.astype(int), np.stack([1 - likely, likely], 1))

    assert found == pytest.approx(area(truth, likely))


def test_kappa_counts_the_classes_that_lie_between() -> None:
    """Whether any image is of them, or answered so, or of any as high as an answer."""
    truth, decided = np.array([0, 0, 2, 2]), np.array([0, 2, 2, 3])
    distance = (truth - decided) ** 2
    by_chance = (truth[:, None] - decided[None, :]) ** 2

    found = score("quadratic_kappa", truth, np.eye(4)[decided])

    assert found == pytest.approx(1 - distance.mean() / by_chance.mean())


def test_a_probability_of_zero_costs_much_but_not_infinitely_much() -> None:
    truth = np.array([0, 1])
    wrong = np.array([[0.0, 1.0], [0.0, 1.0]])

    assert score("log_loss", truth, wrong) == pytest.approx(-np.log(1e-15) / 2)
    several = score("log_loss", truth[:, None] == [0, 1], wrong)
    assert several == pytest.approx(-np.log(1e-15) / 2, rel=1e-3)


def test_rows_that_were_rounded_are_scored_as_shares_of_their_sum() -> None:
    rounded = np.array([[0.66, 0.33], [0.33, 0.66]])

    assert score("log_loss", np.array([0, 1]), rounded) == pytest.approx(-np.log(2 / 3))
    cuts = Decision("cuts", (0.49,))
    assert cuts.decide(np.array([[0.49, 0.48]])).tolist() == [1]


def test_a_class_that_is_neither_there_nor_answered_has_an_f1_of_zero() -> None:
    truth = np.array([[True, False], [True, False]])

    assert score("macro_f1", truth, truth.astype(float)) == 0.5


@pytest.mark.filterwarnings("error")
def test_an_absent_class_leaves_the_area_undefined_and_nothing_else(
    single: tuple[np.ndarray, np.ndarray],
) -> None:
    """As in a fold, or in the public part, that none of a rare class's images are in."""
    truth, likely = single
    rows = truth != 0
    names = [name.replace("K", "3") for name in metric_names()]

    undefined = [name for name in names if np.isnan(score(name, truth[rows], likely[rows]))]

    assert undefined == ["roc_auc"]


def test_decisions() -> None:
    likely = np.array([[0.5, 0.4, 0.1], [0.1, 0.4, 0.5], [0.0, 0.5, 0.5]])

    assert default_decision(3, multi_label=False).decide(likely).tolist() == [0, 2, 1]
    assert Decision("weights", (1, 2, 1)).decide(likely).tolist() == [1, 1, 1]
    assert Decision("cuts", (0.5, 1.5)).decide(likely).tolist() == [1, 1, 2]
    assert Decision("cuts", (0.7, 1.5)).decide(likely).tolist() == [0, 1, 2]
    assert default_decision(3, multi_label=True).decide(likely).tolist() == [
        [True, False, False],
        [False, False, True],
        [False, True, True],
    ]


def test_the_rule_of_a_run_is_the_one_that_was_fitted_or_the_usual_one() -> None:
    fitted = {"multi_label": True, "decision": {"kind": "thresholds", "values": [0.2, 0.7]}}

    assert decision_of(fitted, ("a", "b")) == Decision("thresholds", (0.2, 0.7))
    assert decision_of({"multi_label": True}, ("a", "b")) == Decision("thresholds", (0.5, 0.5))
    assert decision_of({}, ("a", "b")) == Decision("argmax")


def test_a_decision_changes_the_score(single: tuple[np.ndarray, np.ndarray]) -> None:
    truth, likely = single
    never_0 = Decision("weights", (0, 1, 1, 1))

    assert score("macro_f1", truth, likely, never_0) < score("macro_f1", truth, likely)
    assert score("log_loss", truth, likely, never_0) == score("log_loss", truth, likely)


def test_direction() -> None:
    names = [name.replace("K", "3") for name in metric_names()]

    assert [name for name in names if lower_is_better(name)] == ["log_loss"]


@pytest.mark.parametrize(
    ("name", "multi_label", "words"),
    [
        ("f1", False, "metric='f1' is unknown; choose from accuracy, .*, top@K, map@K"),
        ("map@0", False, "metric='map@0' is unknown"),
        ("accuracy", True, "'accuracy' does not score images with several labels; .* macro_f1"),
        ("map@5", True, "does not score images with several labels"),
        ("map@5", False, "'map@5' ranks more than the 4 classes"),
        ("accuracy", True, "choose from log_loss, macro_f1, micro_f1, roc_auc, or correct"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, multi_label: bool, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_metric(name, multi_label=multi_label, classes=CLASSES)


def test_an_unknown_decision_is_refused() -> None:
    with pytest.raises(ConfigError, match="decision 'best' is unknown; choose from argmax"):
        Decision("best")


def test_a_ranking_is_as_long_as_its_name_says() -> None:
    assert metric_named("map@12").length == 12
    check_metric("map@4", multi_label=False, classes=4)


def test_equally_probable_classes_are_ranked_by_number() -> None:
    """Of more than sixteen, which numpy sorts in another way."""
    likely = np.tile([0.01, 0.04], (1, 20))

    assert ranked(likely, 40).tolist() == [[*range(1, 40, 2), *range(0, 40, 2)]]
