"""Copies of the same picture: exact and near ones, joined into clusters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from pipeline.audit.near import near_pairs, required_similarity
from pipeline.audit.views import grey_images
from pipeline.data.cache import TensorCache


@dataclass(frozen=True, slots=True)
class Cluster:
    """Images that show one picture, by position: the training images, then the test images."""

    rows: list[int]
    exact: bool
    """Whether all have the same pixels."""
    mirrored: bool
    """Whether some are mirror images of others."""
    similarity: float
    """The lowest of the similarities that join them."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """All clusters of two or more images, by their first image."""

    clusters: list[Cluster]
    required_similarity: float


def find_duplicates(data: TensorCache, *, mirror: bool) -> Duplicates:
    """Clusters of copies among all images of both parts; see `near_pairs` for what counts.

    Exact copies are grouped by their hash in linear time, and one of each group stands for all
    in the search for near ones.
    """
    grey = np.concatenate([grey_images(data.train.images), grey_images(data.test.images)])
    groups = np.concatenate([_digests(data.train.images), _digests(data.test.images)])
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    distinct = np.sort(first)
    required = required_similarity(grey[distinct])
    pairs = near_pairs(grey[distinct], required, mirror=mirror)
    original = first[group]
    copies = np.flatnonzero(original != np.arange(len(grey)))
    edges = pd.DataFrame(
        {
            "first": np.concatenate([original[copies], distinct[pairs.first]]),
            "second": np.concatenate([copies, distinct[pairs.second]]),
            "similarity": np.concatenate([np.ones(len(copies)), pairs.similarity]),
            "mirrored": np.concatenate([np.zeros(len(copies), bool), pairs.mirrored]),
            "exact": np.arange(len(copies) + len(pairs.first)) < len(copies),
        }
    )
    return Duplicates(_clusters(edges, len(grey)), required)


def _digests(images: Tensor) -> NDArray[np.bytes_]:
    """A hash of each image's pixels."""
    return np.array(
        [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).hexdigest() for image in images],
        dtype="S32",
    )


def _clusters(edges: pd.DataFrame, count: int) -> list[Cluster]:
    """The connected components of the images that edges join."""
    graph = coo_array((np.ones(len(edges)), (edges["first"], edges["second"])), (count, count))
    _, component = connected_components(graph, directed=False)
    found = [
        Cluster(
            rows=sorted({*of_cluster["first"], *of_cluster["second"]}),
            exact=bool(of_cluster["exact"].all()),
            mirrored=bool(of_cluster["mirrored"].any()),
            similarity=float(of_cluster["similarity"].min()),
        )
        for _, of_cluster in edges.groupby(component[edges["first"].to_numpy()])
    ]
    return sorted(found, key=lambda cluster: cluster.rows)
