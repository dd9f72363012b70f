"""The expected calibration error by its definition."""

import numpy as np
import pytest

from pipeline.report.calibration import BINS, calibration


def test_three_answers_by_hand():
    """0.9 and 0.92 share a bin, (0.8667, 0.9333]; one of the two is right. 0.6 is an upper edge."""
    table = np.array([[0.9, 0.1], [0.08, 0.92], [0.6, 0.4]])
    found = calibration(np.array([0, 0, 0]), table)

    assert [(each["count"], each["right"]) for each in found["bins"]] == [(1, 1.0), (2, 0.5)]
    assert found["bins"][0]["to"] == pytest.approx(0.6)
    assert found["error"] == pytest.approx((1 * 0.4 + 2 * abs(0.5 - 0.91)) / 3)


def test_probabilities_that_come_true_as_often_as_they_say_have_no_error():
    generator = np.random.default_rng(0)
    table = generator.random((200_000, 2))
    truth = generator.random(table.shape) < table

    found = calibration(truth, table)

    assert found["error"] < 0.005
    assert len(found["bins"]) == BINS
    assert found["count"] == sum(each["count"] for each in found["bins"]) == 400_000
