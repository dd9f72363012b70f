"""Whether cross-validation orders submissions as the leaderboard does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

FEWEST = 3
SIDES = ("public", "private")


def boards(uploads: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The uploads of each host, with how their CV agrees with its two leaderboards.

    An upload has host, instance, run, cv, public and private; the last two may be None. Hosts, and
    instances of one, have test images of their own, so their scores are never mixed.
    """
    keys = sorted({(upload["host"], upload["instance"]) for upload in uploads})
    found = []
    for host, instance in keys:
        here = [u for u in uploads if (u["host"], u["instance"]) == (host, instance)]
        sides = {side: agreement(here, side) for side in SIDES}
        found.append({"host": host, "instance": instance, "uploads": here, "sides": sides})
    return found


def agreement(uploads: Sequence[dict[str, Any]], side: str) -> dict[str, Any]:
    """Spearman's rank correlation of CV with one leaderboard, and the number of points n.

    `spearman` is None for fewer than three points, or where all of one side are the same.
    """
    points = [(u["cv"], u[side]) for u in uploads if u[side] is not None]
    table = np.array(points, dtype=np.float64).reshape(-1, 2)
    varied = bool(len(table)) and bool((np.ptp(table, axis=0) > 0).all())
    if len(points) < FEWEST or not varied:
        return {"n": len(points), "spearman": None}
    return {"n": len(points), "spearman": float(spearmanr(table[:, 0], table[:, 1]).statistic)}
