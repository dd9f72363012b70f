"""Whether two images that hash alike show the same picture, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from pipeline.audit.views import SIDE, Floats, Images, View, chunks, details

_ZOOMS = [(zoom, zoom) for zoom in (0.94, 1.0, 1.06)]
# Of height and width apart: a crop may have taken an eighth at every border, or at one alone.
_SCALES = (0.8, 0.86, 0.93, 1.0, 1.07, 1.15, 1.25)
_STRETCHES = [(height, width) for height in _SCALES for width in _SCALES]
_SLIDE = 2  # pixels of 32 in each direction
_MARGIN = 4
_PAIRS, _ZOOMS_AT_ONCE = 1024, 7


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


def aligned_similarity(first: Images, second: Images, views: tuple[View, View]) -> Floats:
    """How much `first[k]` and `second[k]`, each in its view, agree at best alignment: -1 to 1.

    The cosine between the middles of the two images' details (see `details`), the largest one
    over small shifts and zooms. Images [P, 32, 32], result [P].
    """
    return _best_cosines(first, second, views, _ZOOMS)


def stretched_similarity(first: Images, second: Images, *, mirrored: bool) -> Floats:
    """The same for pairs of which either may show a part of the other, stretched to the whole.

    Height and width are zoomed apart: some thirty times the work. Images [P, 32, 32], result [P].
    """
    views = View(), View(mirrored=mirrored)
    return np.maximum(
        _best_cosines(first, second, views, _STRETCHES),
        _best_cosines(second, first, views, _STRETCHES),
    )


def _best_cosines(
    first: Images, second: Images, views: tuple[View, View], zooms: Sequence[tuple[float, float]]
) -> Floats:
    best = np.full(len(first), -1, dtype=np.float32)
    of_first, of_second = views
    middle = slice(_MARGIN, SIDE - _MARGIN)
    for part in chunks(len(first), _PAIRS):
        windows = _unit(_windows(details(first[part], of_first)))
        for start in range(0, len(zooms), _ZOOMS_AT_ONCE):
            some = zooms[start : start + _ZOOMS_AT_ONCE]
            seen = [details(second[part], of_second.zoomed(*zoom)) for zoom in some]
            middles = np.stack(seen, axis=1)[:, :, middle, middle]
            cosines = torch.bmm(windows, _unit(middles).mT)
            best[part] = np.maximum(best[part], cosines.amax(dim=(1, 2)).numpy())
    return best


def _windows(images: Floats) -> Floats:
    """All windows of the middle's size around the middle, [P, 25, 24, 24]."""
    side = SIDE - 2 * _MARGIN
    reach = slice(_MARGIN - _SLIDE, SIDE - _MARGIN + _SLIDE)
    windows = sliding_window_view(images[:, reach, reach], (side, side), axis=(1, 2))
    return windows.reshape(len(images), -1, side, side)


def _unit(images: Floats) -> Tensor:
    """Images [P, K, 24, 24] as vectors [P, K, 576] of norm 1; of norm 0 where they are empty."""
    vectors = torch.from_numpy(images.reshape(*images.shape[:2], -1))
    return F.normalize(vectors, dim=-1)
