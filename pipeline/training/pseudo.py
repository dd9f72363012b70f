"""Pseudo-labels: test images as training images, labelled by a network that is sure (Lee 2013).

A fold's network takes those of the same fold's network in an earlier run, and of no other: all
other folds' networks have seen the labels of this fold's validation images, and a test image that
resembles one would carry its label back into training. So no label of a fold reaches the network
that the fold's score is computed with, and cross-validation stays honest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.artifacts import sha256_of, write_whole
from pipeline.data.cache import TensorCache
from pipeline.errors import DataError
from pipeline.training.batches import FoldData
from pipeline.training.placement import near
from pipeline.training.run import PSEUDO, Run


def confident(
    ids: Sequence[str], probabilities: Tensor, classes: Sequence[str], confidence: float
) -> pd.DataFrame:
    """The images whose most probable class has at least `confidence`, in the order of `ids`.

    `probabilities` is [N, classes]. The columns are id, label (the class's name) and probability.
    """
    highest, best = probabilities.max(1)
    rows = np.flatnonzero(highest >= confidence).tolist()
    return pd.DataFrame(
        {
            "id": [ids[row] for row in rows],
            "label": [classes[int(best[row])] for row in rows],
            "probability": highest[rows].numpy(),
        }
    )


def write_pseudo(path: Path, table: pd.DataFrame) -> None:
    """Save the pseudo-labels of a fold as CSV."""
    write_whole(path, table.to_csv(index=False, float_format="%.9g").encode())


def pseudo_hash(run: Run, number: int) -> str | None:
    """The hash of a fold's pseudo-labels; None where the run has none.

    Raises:
        DataError: the file is not there, or not as it was written.
    """
    path = run.pseudo(number)
    if path is None:
        return None
    expected: str = run.record[PSEUDO]["sha256"][number]
    if not path.exists() or sha256_of(path) != expected:
        raise DataError(
            f"{path} is missing or was changed since the run began; delete {run.folder} and make "
            "it again"
        )
    return expected


def with_pseudo(fold: FoldData, run: Run, data: TensorCache, number: int) -> FoldData:
    """The fold with its pseudo-labelled test images behind the training images, if it has any.

    Both are copied into one tensor, so they have to fit in memory together.

    Raises:
        DataError: the pseudo-labels are not as they were written.
    """
    path = run.pseudo(number)
    if path is None or pseudo_hash(run, number) is None:
        return fold
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows = pd.Index(data.test.ids).get_indexer(pd.Index(table["id"]))
    labels = pd.Index(data.classes).get_indexer(pd.Index(table["label"]))
    images = torch.cat([data.train.images, data.test.images[torch.from_numpy(rows)]])
    device = fold.labels.device
    images = near(images, device)
    first = len(data.train.images)
    added = torch.arange(first, first + len(rows))
    return replace(
        fold,
        images=images,
        labels=torch.cat([fold.labels, torch.from_numpy(labels).to(device)]),
        train=torch.cat([fold.train.to(images.device), added.to(images.device)]),
        valid=fold.valid.to(images.device),
        pseudo=len(rows),
    )
