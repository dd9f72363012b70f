"""How CV and leaderboard agree, per host, and when that is not told."""

import pytest
from scipy.stats import spearmanr

from pipeline.report.leaderboard import boards


def upload(run, cv, public, private=None, instance="a"):
    return {
        "host": "local", "instance": instance, "run": run, "cv": cv, "public": public,
        "private": private,
    }  # fmt: skip


def test_ranks_are_correlated_per_instance():
    cv, public = [0.5, 0.6, 0.7, 0.8], [0.4, 0.7, 0.6, 0.9]
    uploads = [upload(f"r{n}", *pair) for n, pair in enumerate(zip(cv, public, strict=True))]
    uploads.append(upload("r0", 0.5, 0.99, instance="b"))

    first, second = boards(uploads)

    assert first["sides"]["public"] == {"n": 4, "spearman": pytest.approx(0.8)}
    assert first["sides"]["public"]["spearman"] == pytest.approx(spearmanr(cv, public).statistic)
    assert first["sides"]["private"] == {"n": 0, "spearman": None}
    assert second["sides"]["public"] == {"n": 1, "spearman": None}


def test_two_points_and_equal_scores_have_no_correlation():
    two = [upload("a", 0.1, 0.2), upload("b", 0.2, 0.3)]
    equal = [upload(name, cv, 0.5) for name, cv in (("a", 0.1), ("b", 0.2), ("c", 0.3))]

    assert boards(two)[0]["sides"]["public"] == {"n": 2, "spearman": None}
    assert boards(equal)[0]["sides"]["public"] == {"n": 3, "spearman": None}
    assert boards([]) == []
