"""Which two uploads are proposed, and what is said of it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.refine.choosing import Entry, agreement, choose_two
from tests.refine.tables import problem_with

_, (LOGISTIC, NEIGHBOURS, TREE) = problem_with("accuracy", ("logistic", "neighbours", "tree"))


def entry(cv: float, public: float | None, table: np.ndarray | None = LOGISTIC) -> Entry:
    predictions = None if table is None else pd.DataFrame(table)
    return Entry(name="run", cv=cv, cv_error=0.01, public=public, predictions=predictions)


def test_where_cv_and_leaderboard_agree_the_second_is_the_least_like_the_first() -> None:
    mixed = 0.9 * LOGISTIC + 0.1 * TREE
    entries = [
        entry(0.90, 0.90),
        entry(0.89, 0.895, mixed),
        entry(0.885, 0.89, NEIGHBOURS),
        entry(0.60, 0.60, TREE),
    ]
    first, second = choose_two(entries)
    assert (first.place, second.place) == (0, 2)
    assert agreement(entries).correlation == 1
    assert "insurance" in second.reason


def test_where_they_agree_little_the_second_leads_the_public_board() -> None:
    entries = [entry(0.9, 0.7), entry(0.8, 0.8), entry(0.7, 0.9), entry(0.6, 0.6)]
    assert [choice.place for choice in choose_two(entries)] == [0, 2]
    assert "agree little" in choose_two(entries)[1].reason
    assert "n = 4" in choose_two(entries)[1].reason


def test_a_first_that_leads_both_boards_gets_an_insurance() -> None:
    entries = [entry(0.9, 0.9), entry(0.89, 0.6), entry(0.85, 0.7), entry(0.6, 0.8)]
    assert [choice.place for choice in choose_two(entries)] == [0, 1]


def test_few_or_unknown_scores_say_nothing_of_agreement() -> None:
    assert agreement([entry(0.9, 0.9)] * 4).correlation is None
    assert agreement([entry(0.9, None)] * 5).count == 0
    assert agreement([]).correlation is None
    (only,) = choose_two([entry(0.9, None)])
    assert only.place == 0


def test_predictions_that_are_gone_leave_cross_validation() -> None:
    entries = [entry(0.9, 0.9, None), entry(0.8, 0.8), entry(0.895, 0.7)]
    first, second = choose_two(entries)
    assert (first.place, second.place) == (0, 2)
    assert "gone" in second.reason
