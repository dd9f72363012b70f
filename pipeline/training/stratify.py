"""Folds in which every label is as frequent as in the whole, where images have several labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def multi_label_folds(
    labels: np.ndarray, groups: Sequence[str] | None, folds: int, seed: int
) -> np.ndarray:
    """Fold number int64 [N] per image by iterative stratification; groups stay whole.

    The label that fewest of the images not yet placed have is dealt out first, each image to the
    fold that wants most of that label (Sechidis et al. 2011, "On the stratification of multi-label
    data"). Images without a label count as having one more label.

    Args:
        labels: bool [N, classes].
        groups: of each image, or None.
        folds: their number.
        seed: decides between folds that want the same.
    """
    random = np.random.default_rng(seed)
    member = np.unique(np.asarray(groups), return_inverse=True)[1] if groups else None
    counts = np.hstack([labels, ~labels.any(axis=1, keepdims=True)]).astype(np.int64)
    if member is not None:
        of_group = np.zeros((member.max() + 1, counts.shape[1]), dtype=np.int64)
        np.add.at(of_group, member, counts)
        counts = of_group
    placed = _deal_out(counts, folds, random)
    return placed if member is None else placed[member]


def _deal_out(counts: np.ndarray, folds: int, random: np.random.Generator) -> np.ndarray:
    """The fold int64 [M] of each unit, whose images have `counts` [M, labels] of each label."""
    wanted = np.tile(counts.sum(axis=0) / folds, (folds, 1))
    placed = np.full(len(counts), -1, dtype=np.int64)
    left = counts.sum(axis=0)
    # Large groups first: the small ones then even out what is left.
    order = np.lexsort((random.permutation(len(counts)), -counts.sum(axis=1)))
    while left.any():
        label = int(np.where(left > 0, left, left.max() + 1).argmin())
        for unit in order[(placed[order] < 0) & (counts[order, label] > 0)]:
            best = np.lexsort((random.random(folds), -wanted.sum(axis=1), -wanted[:, label]))[0]
            placed[unit] = best
            wanted[best] -= counts[unit]
            left -= counts[unit]
    return placed
