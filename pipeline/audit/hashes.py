"""Perceptual hashes, and all pairs of them that differ in few bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from pipeline.audit.views import SIDE, Floats, Images, View, transformed

_FREQUENCIES = 8
_ROWS, _COLUMNS = 32, 4096  # a block of XORs that stays in a core's cache


def perceptual_hashes(grey: Images, view: View) -> NDArray[np.uint64]:
    """One hash [N] per image [N, 32, 32] seen in this view: the signs of its 63 lowest cosines.

    A perceptual hash as in Zauner, "Implementation and benchmarking of perceptual image hash
    functions" (2010), with signs in place of a median: they ignore brightness and contrast.
    """
    cosines = _cosines()
    found = transformed(grey, cosines @ view.rows(), cosines @ view.columns())
    bits = found.reshape(-1, _FREQUENCIES**2) > 0
    bits[:, 0] = False  # the mean, whose sign says nothing
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def close_pairs(
    first: NDArray[np.uint64], second: NDArray[np.uint64], radius: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions (i, j) where `first[i]` and `second[j]` differ in at most `radius` bits.

    Every pair is looked at (len(first) x len(second) XORs and bit counts, in blocks that stay in
    the cache, about a nanosecond each), so none is missed. Few pairs are held at a time.
    """
    for start in range(0, len(first), _ROWS):
        found = [
            (start + i, column + j)
            for column in range(0, len(second), _COLUMNS)
            for i, j in _near(
                first[start : start + _ROWS], second[column : column + _COLUMNS], radius
            )
        ]
        if found:
            yield np.concatenate([i for i, _ in found]), np.concatenate([j for _, j in found])


def _near(
    first: NDArray[np.uint64], second: NDArray[np.uint64], radius: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The pairs of one block, if it has any."""
    distance = np.bitwise_count(first[:, None] ^ second[None])
    places = np.flatnonzero(distance <= radius)
    if len(places):
        yield np.divmod(places, len(second))


def _cosines() -> Floats:
    """The lowest rows of the orthonormal discrete cosine transform, [8, 32]."""
    matrix: Floats = dct(np.eye(SIDE), axis=0, norm="ortho")[:_FREQUENCIES].astype(np.float32)
    return matrix
