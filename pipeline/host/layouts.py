"""The files a competition serves, in the layouts that Kaggle's image competitions use.

Every layout yields (path, bytes) in an order that tells nothing about the hidden labels.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from pipeline.competition import Competition
from pipeline.host.answers import separator_of, value_columns, values_of
from pipeline.host.scoring import metric_of
from pipeline.host.sources.images import Labelled, Pixels

File = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Part:
    """Images with their ids and class names, row by row.

    Several class names are one text. `groups` names what belongs together, by its column.
    """

    images: npt.NDArray[Any]
    ids: list[str]
    labels: list[str]
    groups: dict[str, list[str]] = field(default_factory=dict)


def number(part: Labelled, competition: Competition, first_id: int) -> Part:
    """Name the images first_id, first_id + 1, ... and their classes and groups."""
    ids = [str(first_id + row) for row in range(len(part))]
    names = np.array(competition.classes, dtype=object)
    separator = separator_of(competition)
    labels = [
        separator.join(names[label]) if part.labels.ndim == 2 else names[label]
        for label in part.labels
    ]
    column = competition.data.group_column
    if column is None or part.groups is None:
        return Part(part.images, ids, labels)
    return Part(part.images, ids, labels, {column: [str(group) for group in part.groups]})


def folders(train: Part, test: Part) -> Iterator[File]:
    """train/<class>/<id>.png and test/<id>.png."""
    for image, name, label in zip(train.images, train.ids, train.labels, strict=True):
        yield _image(f"train/{label}/{name}", image)
    yield from _images("test", test)


def table(train: Part, test: Part) -> Iterator[File]:
    """train.csv (id, label and, where there are such, group), train/<id>.png and test/<id>.png."""
    columns = {"id": train.ids, "label": train.labels, **train.groups}
    yield "train.csv", _csv(pd.DataFrame(columns))
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


def sample_submission(ids: list[str], competition: Competition) -> File:
    """One row per test image in the competition's form, the same on each."""
    table = pd.DataFrame({competition.submission.id or "id": ids})
    for column in value_columns(competition):
        table[column] = _sample_value(competition)
    return "sample_submission.csv", _csv(table)


def _sample_value(competition: Competition) -> str:
    classes = competition.classes
    match values_of(competition):
        case "label":
            return classes[0]
        case "labels":
            return separator_of(competition).join(classes[: metric_of(competition).length or 1])
        case "probabilities" if not competition.multi_label:
            return f"{1 / len(classes):.6g}"
        case "index" | "indicators":
            return "0"
        case _:
            return "0.5"


def _images(folder: str, part: Part) -> Iterator[File]:
    for image, name in zip(part.images, part.ids, strict=True):
        yield _image(f"{folder}/{name}", image)


def _pixel_columns(part: Part) -> pd.DataFrame:
    flat = part.images.reshape(len(part.images), -1)
    rows = pd.DataFrame(flat, columns=[f"pixel{n}" for n in range(flat.shape[1])])
    rows.insert(0, "id", part.ids)
    return rows


def _image(path: str, image: bytes | Pixels) -> File:
    if isinstance(image, bytes):
        return f"{path}.jpg", image
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png")
    return f"{path}.png", buffer.getvalue()


def _csv(rows: pd.DataFrame) -> bytes:
    return rows.to_csv(index=False, lineterminator="\n").encode()


def _idx(array: Pixels) -> bytes:
    unsigned_byte = 8
    header = struct.pack(f">HBB{array.ndim}I", 0, unsigned_byte, array.ndim, *array.shape)
    return header + array.tobytes()
