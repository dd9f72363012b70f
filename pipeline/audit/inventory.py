"""What there is: classes, sizes and formats of the files, images that show nothing."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.audit.views import at_once, chunks
from pipeline.data.cache import Part, TensorCache
from pipeline.data.images import Probe, probe_array, probe_image
from pipeline.data.layouts import RawPart

SIZES_SHOWN = 20
_PLAIN = 2.0  # grey levels


def class_counts(part: Part, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Images and their share per class, in class order; of several labels each counts alone."""
    labels = part.known_labels().numpy()
    counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(classes))
    return [
        {"class": name, "images": int(count), "share": float(count / len(labels))}
        for name, count in zip(classes, counts, strict=True)
    ]


def file_sizes(train: RawPart, test: RawPart) -> dict[str, Any]:
    """How many files there are of each size in pixels and each format, most frequent first.

    Only headers are read. Arrays have one size and no format.

    Raises:
        DataError: a header is damaged.
    """
    parts = {"train": train, "test": test}
    sizes = {name: Counter(map(_size_text, _probes(part))) for name, part in parts.items()}
    formats = {name: Counter(_formats(part)) for name, part in parts.items()}
    return {"sizes": _side_by_side(sizes), "formats": _side_by_side(formats)}


def plain_images(data: TensorCache) -> dict[str, list[str]]:
    """Ids of the images of one colour, or nearly so (contrast below two grey levels)."""
    return {
        name: [part.ids[row] for row in np.flatnonzero(_contrast(part.images) < _PLAIN)]
        for name, part in (("train", data.train), ("test", data.test))
    }


def _contrast(images: Tensor) -> np.ndarray:
    """The largest standard deviation of a channel of each image, [N], in grey levels."""
    parts = chunks(len(images), at_once(images))
    deviations = [images[part].float().flatten(1, 2).std(1) for part in parts]
    return torch.cat(deviations).amax(1).numpy()


def _probes(part: RawPart) -> list[Probe]:
    if isinstance(part.images, np.ndarray):
        return [probe_array(part.images)] * len(part.images)
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        return list(workers.map(probe_image, part.images))


def _size_text(probe: Probe) -> str:
    return f"{probe.width} x {probe.height}{' grey' if probe.is_grey else ''}"


def _formats(part: RawPart) -> list[str]:
    if isinstance(part.images, np.ndarray):
        return ["array"] * len(part.images)
    return [Path(path).suffix.lower().lstrip(".") for path in part.images]


def _side_by_side(counts: dict[str, Counter[str]]) -> list[dict[str, Any]]:
    total = counts["train"] + counts["test"]
    names = sorted(total, key=lambda name: (-total[name], name))
    return [
        {"name": name, "train": counts["train"][name], "test": counts["test"][name]}
        for name in names
    ]
