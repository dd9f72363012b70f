"""A temperature takes the over-confidence out of a table, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics import score
from pipeline.refine.refinement import Stored, nested
from pipeline.refine.temperature import Temperature, at_temperature, fit_temperature
from tests.refine.tables import problem_with, several_labels


def test_an_over_confident_table_is_cooled_and_keeps_its_answers() -> None:
    problem, (table,) = problem_with("log_loss", ("bayes",))
    temperature = fit_temperature(problem.truth, table)
    scaled = at_temperature(table, temperature, multi_label=False)

    assert temperature > 1.2
    assert score("log_loss", problem.truth, scaled) < score("log_loss", problem.truth, table)
    assert (scaled.argmax(1) == table.argmax(1)).all()
    assert scaled.sum(1) == pytest.approx(1)


def test_what_was_made_over_confident_is_brought_back() -> None:
    problem, (table,) = problem_with("log_loss", ("logistic",))
    own = fit_temperature(problem.truth, table)
    sharpened = at_temperature(table, 1 / 3, multi_label=False)
    assert fit_temperature(problem.truth, sharpened) == pytest.approx(3 * own, rel=1e-3)


def test_several_labels_are_scaled_each_by_itself() -> None:
    problem, (table,) = several_labels("log_loss")
    sharpened = at_temperature(table, 0.25, multi_label=True)
    result = nested(Temperature(), problem, [Stored(sharpened)])

    assert fit_temperature(problem.truth, sharpened) > 2
    assert max(result.scores) < min(problem.scores(sharpened))
    assert ((result.probabilities > 0.5) == (table > 0.5)).all()
    assert np.isfinite(at_temperature(np.array([[0.0, 1.0]]), 0.5, multi_label=True)).all()
