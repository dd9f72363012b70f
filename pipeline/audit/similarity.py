"""Whether two images that hash alike show the same picture, pixel by pixel."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline.audit.views import SIDE, Floats, Images, View, chunks, details

_ZOOMS = (0.94, 1.0, 1.06)
_SLIDE = 2  # pixels of 32 in each direction
_MARGIN = 4
_PAIRS = 1024


def unit_details(grey: Images, view: View) -> Floats:
    """A short description [N, 256] of each image in this view: details at half size, norm 1."""
    vectors = details(grey, view, step=2).reshape(-1, (SIDE // 2) ** 2)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    return unit


def dot_products(
    first: Floats, i: NDArray[np.int64], second: Floats, j: NDArray[np.int64]
) -> Floats:
    """`first[i]` times `second[j]`, pair by pair."""
    found = np.empty(len(i), dtype=np.float32)
    for part in chunks(len(i)):
        found[part] = np.einsum("pd,pd->p", first[i[part]], second[j[part]])
    return found


def aligned_similarity(first: Images, second: Images, view: View) -> Floats:
    """How much `first[k]` and `second[k]` in this view agree, from -1 to 1, at best alignment.

    The cosine between the middles of the two images' details (see `details`), the largest one
    over small shifts and zooms. Images [P, 32, 32], result [P].
    """
    best = np.full(len(first), -1, dtype=np.float32)
    for part in chunks(len(first), _PAIRS):
        windows = _windows(details(first[part], View()))
        for zoom in _ZOOMS:
            middles = details(second[part], view.zoomed(zoom))[
                :, _MARGIN : SIDE - _MARGIN, _MARGIN : SIDE - _MARGIN
            ]
            best[part] = np.maximum(best[part], _cosines(windows, middles))
    return best


def _windows(images: Floats) -> Floats:
    """All windows of the middle's size around the middle, [P, 5, 5, 24, 24]."""
    side = SIDE - 2 * _MARGIN
    reach = slice(_MARGIN - _SLIDE, SIDE - _MARGIN + _SLIDE)
    return sliding_window_view(images[:, reach, reach], (side, side), axis=(1, 2))


def _cosines(windows: Floats, middles: Floats) -> Floats:
    """The largest cosine between a middle [P, 24, 24] and one of its windows."""
    products = np.einsum("pyxij,pij->pyx", windows, middles)
    squares = np.einsum("pyxij,pyxij->pyx", windows, windows) * np.einsum(
        "pij,pij->p", middles, middles
    ).reshape(-1, 1, 1)
    cosines = np.divide(products, np.sqrt(squares), out=np.zeros_like(products), where=squares > 0)
    largest: Floats = cosines.max(axis=(1, 2))
    return largest
