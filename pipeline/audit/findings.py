"""What the audit found as plain values in a stable order: the content of audit.json."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.audit.duplicates import Cluster, Duplicates
from pipeline.audit.shift import Shift
from pipeline.data.cache import Part, TensorCache

MOST_SUSPECTS = 2000


def duplicate_findings(
    data: TensorCache, found: Duplicates, folds: NDArray[np.int64] | None
) -> dict[str, Any]:
    """Every cluster, and how many images have copies where; `folds` [N] of the training images."""
    clusters = [_cluster_values(cluster, data, folds) for cluster in found.clusters]
    train, test = (_members(clusters, part) for part in ("train", "test"))
    return {
        "required_similarity": round(found.required_similarity, 4),
        "count": len(clusters),
        "exact": sum(cluster["exact"] for cluster in clusters),
        "largest": max((len(cluster["images"]) for cluster in clusters), default=0),
        "train_images_with_copy_in_train": sum(len(own) for own in train if len(own) > 1),
        "test_images_with_copy_in_train": sum(
            len(own) for own, trained in zip(test, train, strict=True) if trained
        ),
        "test_images_with_copy_in_test": sum(len(own) for own in test if len(own) > 1),
        "train_images_with_copy_in_another_fold": None
        if folds is None
        else sum(len(own) for own in train if len({image["fold"] for image in own}) > 1),
        "with_conflicting_labels": sum(cluster["conflicting_labels"] for cluster in clusters),
        "clusters": clusters,
    }


def suspect_findings(table: pd.DataFrame, data: TensorCache) -> list[dict[str, Any]]:
    """The first 2000 rows of `label_suspects` with ids and names in place of numbers."""
    several = data.train.known_labels().ndim == 2

    def name(row: Any, number: int) -> str:
        if not several:
            return data.classes[number]
        return data.classes[row["class"]] if number else f"not {data.classes[row['class']]}"

    return [
        {
            "id": data.train.ids[row["row"]],
            "label": name(row, row["stated"]),
            "predicted": name(row, row["predicted"]),
            "confidence": round(row["confidence"], 6),
            "predicted_confidence": round(row["predicted_confidence"], 6),
            "score": round(row["score"], 6),
            "confident": row["confident"],
        }
        for row in table.head(MOST_SUSPECTS).to_dict("records")
    ]


def shift_findings(shift: Shift) -> dict[str, Any]:
    """The AUC with its spread, and the plain numbers behind it."""
    return {
        "auc": round(shift.auc, 4),
        "spread": round(shift.spread, 4),
        "train_images": shift.images[0],
        "test_images": shift.images[1],
        "statistics": [
            {"name": name, "train": round(train, 3), "test": round(test, 3), "auc": round(auc, 4)}
            for name, (train, test, auc) in shift.statistics.items()
        ],
    }


def label_text(part: Part, row: int, classes: tuple[str, ...]) -> str:
    """An image's label, or its labels with commas between them."""
    label = part.known_labels()[row].numpy()
    if label.ndim == 0:
        return classes[int(label)]
    return ", ".join(classes[number] for number in np.flatnonzero(label)) or "none"


def _cluster_values(
    cluster: Cluster, data: TensorCache, folds: NDArray[np.int64] | None
) -> dict[str, Any]:
    images = [_image_values(position, data, folds) for position in cluster.rows]
    labels = {image["label"] for image in images if image["part"] == "train"}
    return {
        "exact": cluster.exact,
        "mirrored": cluster.mirrored,
        "similarity": round(cluster.similarity, 4),
        "conflicting_labels": len(labels) > 1,
        "images": images,
    }


def _image_values(
    position: int, data: TensorCache, folds: NDArray[np.int64] | None
) -> dict[str, Any]:
    row = position - len(data.train.ids)
    if row >= 0:
        return {"part": "test", "row": row, "id": data.test.ids[row], "label": None, "fold": None}
    return {
        "part": "train",
        "row": position,
        "id": data.train.ids[position],
        "label": label_text(data.train, position, data.classes),
        "fold": None if folds is None else int(folds[position]),
    }


def _members(clusters: list[dict[str, Any]], part: str) -> list[list[dict[str, Any]]]:
    """The images of one part in every cluster."""
    return [[image for image in cluster["images"] if image["part"] == part] for cluster in clusters]
