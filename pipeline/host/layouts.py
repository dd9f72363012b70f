"""The files a competition serves, in the layouts that Kaggle's image competitions use.

Every layout yields (path, bytes) in an order that tells nothing about the hidden labels.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.host.sources.images import Labelled, Pixels

File = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Part:
    """Images with their ids and class names, row by row."""

    images: Pixels
    ids: list[str]
    labels: list[str]


def number(part: Labelled, classes: tuple[str, ...], first_id: int) -> Part:
    """Name the images first_id, first_id + 1, ... and their classes."""
    ids = [str(first_id + row) for row in range(len(part))]
    return Part(part.images, ids, [classes[label] for label in part.labels])


def folders(train: Part, test: Part) -> Iterator[File]:
    """train/<class>/<id>.png and test/<id>.png."""
    for image, name, label in zip(train.images, train.ids, train.labels, strict=True):
        yield f"train/{label}/{name}.png", _png(image)
    yield from _images("test", test)


def table(train: Part, test: Part) -> Iterator[File]:
    """train.csv (id, label), train/<id>.png and test/<id>.png."""
    yield "train.csv", _csv(pd.DataFrame({"id": train.ids, "label": train.labels}))
    yield from _images("train", train)
    yield from _images("test", test)


def pixels(train: Part, test: Part) -> Iterator[File]:
    """train.csv (id, label, pixel0, ...) and test.csv (id, pixel0, ...)."""
    rows = _pixel_columns(train)
    rows.insert(1, "label", train.labels)
    yield "train.csv", _csv(rows)
    yield "test.csv", _csv(_pixel_columns(test))


def idx(train: Part, test: Part) -> Iterator[File]:
    """The IDX files of MNIST; the ids are the row numbers, from 1."""
    yield "train-images-idx3-ubyte", _idx(train.images)
    yield "train-labels-idx1-ubyte", _idx(np.array(train.labels, dtype=np.uint8))
    yield "t10k-images-idx3-ubyte", _idx(test.images)


def sample_submission(ids: list[str], id_column: str, target: str, label: str) -> File:
    """One row per test image, the same label on each."""
    return "sample_submission.csv", _csv(pd.DataFrame({id_column: ids, target: label}))


def _images(folder: str, part: Part) -> Iterator[File]:
    for image, name in zip(part.images, part.ids, strict=True):
        yield f"{folder}/{name}.png", _png(image)


def _pixel_columns(part: Part) -> pd.DataFrame:
    flat = part.images.reshape(len(part.images), -1)
    rows = pd.DataFrame(flat, columns=[f"pixel{n}" for n in range(flat.shape[1])])
    rows.insert(0, "id", part.ids)
    return rows


def _png(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png")
    return buffer.getvalue()


def _csv(rows: pd.DataFrame) -> bytes:
    return rows.to_csv(index=False, lineterminator="\n").encode()


def _idx(array: Pixels) -> bytes:
    unsigned_byte = 8
    header = struct.pack(f">HBB{array.ndim}I", 0, unsigned_byte, array.ndim, *array.shape)
    return header + array.tobytes()
