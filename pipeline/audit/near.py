"""Near duplicates: pictures that differ by brightness, compression, size, a small shift or crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.audit.hashes import close_pairs, perceptual_hashes
from pipeline.audit.similarity import (
    aligned_similarity,
    dot_products,
    stretched_similarity,
    unit_details,
)
from pipeline.audit.views import Floats, Images, View, chunks, details

RADIUS = 20
# Far shifts are looked for in copies of the same size alone, in what both show: hashes of that
# differ less, which leaves a twentieth of the candidates, and nothing is stretched.
_FAR_RADIUS = 16
SIMILARITY = 0.85
_SHARE_OF_DISTANCE = 0.2
# What may be stretched to fit agrees so much more by chance.
_GAINED_BY_STRETCHING = 0.02
_UNRELATED_PAIRS, _ENOUGH_IMAGES = 20_000, 200
# Times the distance that a pair may have: what is further off before it is aligned, or stretched,
# is left alone. For photographs similarities of 0.3 and 0.5.
_WORTH_ALIGNING, _WORTH_STRETCHING = 0.7 / 0.15, 0.5 / 0.15
_FLAT = 1.0  # grey levels
_SHIFTS = (-4, -2, 0, 2, 4)  # pixels of 32
_ZOOMED = 28
_ZOOMED_SHIFTS = ((0, 0), (-2, -2), (-2, 2), (2, -2), (2, 2))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of images (first < second, by position) with their similarity."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarity: Floats
    mirrored: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Seen:
    """The hashes and short descriptions of images in one view."""

    hashes: NDArray[np.uint64]
    units: Floats

    @classmethod
    def of(cls, images: Images, view: View) -> _Seen:
        return cls(perceptual_hashes(images, view), unit_details(images, view))


def is_flat(grey: Images) -> NDArray[np.bool_]:
    """Whether images [N, 32, 32] show nothing that could be compared, as plain areas do."""
    flat = np.empty(len(grey), dtype=bool)
    for rows in chunks(len(grey)):
        flat[rows] = details(grey[rows], View()).std(axis=(1, 2)) < _FLAT
    return flat


def required_similarity(grey: Images) -> float:
    """The similarity from which two of these images [N, 32, 32] count as near duplicates.

    At least 0.85; more where unrelated images are alike already, as handwritten digits are: a
    fifth of the distance that all but the closest 0.5 % of random pairs keep from each other. Where
    more of them are copies than that, it is too much, and near copies are missed.
    """
    if len(grey) < _ENOUGH_IMAGES:
        return SIMILARITY
    chosen = np.random.default_rng(0).integers(0, len(grey), (2, _UNRELATED_PAIRS))
    i, j = chosen[:, chosen[0] != chosen[1]]
    vectors = unit_details(grey, View())
    by_chance = float(np.quantile(dot_products(vectors, i, vectors, j), 0.995))
    return max(SIMILARITY, 1 - _SHARE_OF_DISTANCE * (1 - by_chance))


def near_pairs(grey: Images, required: float, *, mirror: bool) -> Pairs:
    """All pairs of near duplicates among grey images [N, 32, 32], sorted; flat images have none.

    Candidates are pairs whose hashes differ in at most 20 of 63 bits (16 after a far shift) in one
    of 18 views (38 with `mirror`: mirrored copies count); those whose details agree by `required`
    at the best alignment, or a little more at the best stretch, are pairs. No more than an eighth
    of the side may be shifted. The search looks at all N^2 pairs of hashes in every view; comparing
    pixels is linear in the candidates, of which there are many only where all images look alike.
    """
    textured = np.flatnonzero(~is_flat(grey))
    images = grey[textured]
    views = _views(mirrored=False) + (_views(mirrored=True) if mirror else [])
    best: dict[tuple[int, int], tuple[float, bool]] = {}
    for view in tqdm(views, desc="near duplicates", unit="view", dynamic_ncols=True):
        for i, j, similarity in zip(*_likely_in(view, images, required), strict=True):
            pair = (min(i, j), max(i, j))
            best[pair] = max(best.get(pair, (-1.0, False)), (similarity, view.mirrored))
    _stretch_doubtful(best, images, required)
    pairs = sorted(pair for pair, (similarity, _) in best.items() if similarity >= required)
    places = textured[np.array(pairs, dtype=np.int64).reshape(-1, 2)]
    return Pairs(
        first=places[:, 0],
        second=places[:, 1],
        similarity=np.array([best[pair][0] for pair in pairs], dtype=np.float32),
        mirrored=np.array([best[pair][1] for pair in pairs], dtype=bool),
    )


def _views(*, mirrored: bool) -> list[View]:
    """Where the other image is looked for.

    Every pair is met in both orders, so a view finds its inverse too: a shift by (down, right) that
    by (-down, -right); after mirroring that by (-down, right).
    """
    return [
        *(
            View(down=down, right=right, mirrored=mirrored)
            for down in _SHIFTS
            for right in _SHIFTS
            if down > 0 or (down == 0 and (mirrored or right >= 0))
        ),
        *(
            View(_ZOOMED, _ZOOMED, down=down, right=right, mirrored=mirrored)
            for down, right in _ZOOMED_SHIFTS
        ),
    ]


def _likely_in(
    view: View, images: Images, required: float
) -> tuple[list[int], list[int], list[float]]:
    """Positions i and j, and the similarity of image i to image j in this view."""
    worth_aligning = 1 - _WORTH_ALIGNING * (1 - required)
    worth_stretching = 1 - _WORTH_STRETCHING * (1 - required)
    is_far = max(abs(view.down), abs(view.right)) == max(_SHIFTS)
    radius, least = (_FAR_RADIUS, required) if is_far else (RADIUS, worth_stretching)
    views = view.overlap() if is_far else (View(), view)
    first, second = (_Seen.of(images, one) for one in views)
    found: tuple[list[int], list[int], list[float]] = ([], [], [])
    for candidates in close_pairs(first.hashes, second.hashes, radius):
        i, j = _where(candidates[0] != candidates[1], *candidates)
        i, j = _where(dot_products(first.units, i, second.units, j) > worth_aligning, i, j)
        similarity = aligned_similarity(images[i], images[j], views)
        likely = similarity >= least
        found[0].extend(i[likely].tolist())
        found[1].extend(j[likely].tolist())
        found[2].extend(similarity[likely].tolist())
    return found


def _stretch_doubtful(
    best: dict[tuple[int, int], tuple[float, bool]], images: Images, required: float
) -> None:
    """Compare again, and closer, what is likely a pair but not alike enough so far."""
    for mirrored in (False, True):
        doubtful = [
            pair
            for pair, (similarity, is_mirrored) in best.items()
            if similarity < required and is_mirrored == mirrored
        ]
        i, j = np.array(doubtful, dtype=np.int64).reshape(-1, 2).T
        similarity = stretched_similarity(images[i], images[j], mirrored=mirrored)
        for pair, closer in zip(doubtful, similarity.tolist(), strict=True):
            best[pair] = max(best[pair], (closer - _GAINED_BY_STRETCHING, mirrored))


def _where(
    chosen: NDArray[np.bool_], i: NDArray[np.int64], j: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return i[chosen], j[chosen]
