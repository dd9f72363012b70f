"""Adversarial validation: can a classifier tell training images from test images?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from pipeline.audit.views import at_once, chunks
from pipeline.errors import DataError

MOST_IMAGES = 2500
_FOLDS = 5
_THUMBNAIL = 8
_COMPONENTS = 24
_STATISTICS = ("brightness", "contrast", "sharpness", "darkest", "brightest")


@dataclass(frozen=True, slots=True)
class Shift:
    """How well test images are told from training images; 0.5: not at all."""

    auc: float
    spread: float
    """Standard deviation over folds."""
    at_least: float
    """The AUC less two standard errors of the mean over folds."""
    images: tuple[int, int]
    """How many training and test images were looked at."""
    statistics: dict[str, tuple[float, float, float]]
    """Means over training and test images, and the AUC of this one number (at least 0.5)."""


def train_test_shift(train: Tensor, test: Tensor, seed: int) -> Shift:
    """Cross-validated AUC of gradient boosting between images uint8 [N, H, W, C] of both parts.

    Features are a thumbnail's principal components, and per channel brightness, contrast,
    sharpness and extremes. At most 2500 images of each part, drawn by `seed`, are looked at.

    Raises:
        DataError: a part has too few images to cross-validate.
    """
    chosen = [_sample(len(images), seed) for images in (train, test)]
    counts = (len(chosen[0]), len(chosen[1]))
    if min(counts) < 2 * _FOLDS:
        raise DataError(
            f"{counts[0]} training and {counts[1]} test images: to tell them apart takes at least "
            f"{2 * _FOLDS} of each"
        )
    is_test = np.repeat([0, 1], counts)
    parts = list(zip((train, test), chosen, strict=True))
    statistics = np.concatenate([_statistics(*part) for part in parts])
    thumbnails = np.concatenate([_thumbnails(*part) for part in parts])
    scores = [
        _fold_auc(thumbnails, statistics, is_test, fit, held_out, seed)
        for fit, held_out in StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(
            statistics, is_test
        )
    ]
    auc, spread = float(np.mean(scores)), float(np.std(scores, ddof=1))
    return Shift(
        auc=auc,
        spread=spread,
        at_least=auc - 2 * spread / _FOLDS**0.5,
        images=counts,
        statistics=_told_apart_by(statistics, is_test),
    )


def _sample(count: int, seed: int) -> Tensor:
    """The positions of the images that are looked at, in order."""
    chosen = np.random.default_rng(seed).choice(count, min(count, MOST_IMAGES), replace=False)
    return torch.from_numpy(np.sort(chosen))


def _pixels(images: Tensor, chosen: Tensor) -> Iterator[Tensor]:
    """The chosen images as [n, C, H, W], a few at a time."""
    for part in chunks(len(chosen), at_once(images)):
        yield images[chosen[part]].permute(0, 3, 1, 2)


def _statistics(images: Tensor, chosen: Tensor) -> NDArray[np.float64]:
    """[N, 5 x channels]: the numbers named in _STATISTICS, each for every channel."""
    found = []
    for part in _pixels(images, chosen):
        pixels = part.double()
        flat = pixels.flatten(2)
        steps = pixels.diff(dim=2).abs().mean((2, 3)) + pixels.diff(dim=3).abs().mean((2, 3))
        extremes = torch.quantile(flat, torch.tensor([0.05, 0.95]).double(), dim=2)
        found.append(torch.cat([flat.mean(2), flat.std(2), steps, *extremes], dim=1).numpy())
    return np.concatenate(found)


def _thumbnails(images: Tensor, chosen: Tensor) -> NDArray[np.float64]:
    small = [
        F.interpolate(
            part.float(), size=(_THUMBNAIL, _THUMBNAIL), mode="bilinear", antialias=True
        ).flatten(1)
        for part in _pixels(images, chosen)
    ]
    return torch.cat(small).double().numpy()


def _fold_auc(
    thumbnails: NDArray[np.float64],
    statistics: NDArray[np.float64],
    is_test: NDArray[np.int64],
    fit: NDArray[np.int64],
    held_out: NDArray[np.int64],
    seed: int,
) -> float:
    components = min(_COMPONENTS, thumbnails.shape[1], len(fit))
    pca = PCA(components, svd_solver="full").fit(thumbnails[fit])
    features = np.concatenate([pca.transform(thumbnails), statistics], axis=1)
    model = HistGradientBoostingClassifier(
        max_iter=60, learning_rate=0.1, max_leaf_nodes=8, random_state=seed
    )
    model.fit(features[fit], is_test[fit])
    return float(roc_auc_score(is_test[held_out], model.predict_proba(features[held_out])[:, 1]))


def _told_apart_by(
    statistics: NDArray[np.float64], is_test: NDArray[np.int64]
) -> dict[str, tuple[float, float, float]]:
    """Each statistic, averaged over channels: means over both parts, and its AUC alone."""
    channels = statistics.shape[1] // len(_STATISTICS)
    found = {}
    for place, name in enumerate(_STATISTICS):
        values = statistics[:, place * channels : (place + 1) * channels].mean(axis=1)
        auc = float(roc_auc_score(is_test, values))
        means = (float(values[is_test == 0].mean()), float(values[is_test == 1].mean()))
        found[name] = (*means, max(auc, 1 - auc))
    return found
