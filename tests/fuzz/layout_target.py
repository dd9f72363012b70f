"""Bytes as the files of a raw folder: each begins with a line `--- name`, its content follows.

What stands before the first file names the competition's definition.
"""

from __future__ import annotations

import gzip
import io
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pipeline.competition import Competition, DataSpec
from pipeline.data.layouts import read_layout
from pipeline.data.layouts.parts import RawDataset
from pipeline.errors import PipelineError

MARK = b"\n--- "
DEFINITIONS = {
    b"": Competition(slug="pets"),
    b"cells": Competition(
        slug="pets", data=DataSpec(label_separator=" ", group_column="group", label_column="labels")
    ),
}
LONGEST_NAME = 100


class LayoutTarget:
    """Reads raw folders, one after the other."""

    words = (
        *(MARK, b"train", b"test", b"train.csv", b"sample_submission.csv", b"id", b"label"),
        *(b".png", b".npz", b".npy", b"-idx3-ubyte", b".gz", b"pixel0", b"/", b"../", b"\x1f\x8b"),
    )

    def __init__(self, folder: Path) -> None:
        self._raw = folder / "raw"

    def seeds(self) -> Iterator[bytes]:
        """A small folder of every layout."""
        for definition, files in _folders():
            yield definition + b"".join(
                MARK + name.encode() + b"\n" + files[name] for name in files
            )

    def run(self, data: bytes) -> None:
        """Fails where the reader raises what it does not promise, or speaks in several lines."""
        message = ""
        try:
            self.read(data)
        except PipelineError as err:
            message = str(err)
        assert message.isprintable(), message

    def read(self, data: bytes) -> RawDataset:
        """What the reader makes of the files.

        Raises:
            PipelineError: it refuses them.
        """
        shutil.rmtree(self._raw, ignore_errors=True)
        self._raw.mkdir(parents=True)
        definition, *parts = data.split(MARK)
        for part in parts:
            name, _, content = part.partition(b"\n")
            self._put(name, content)
        return read_layout(self._raw, DEFINITIONS.get(definition, DEFINITIONS[b""]))

    def _put(self, name: bytes, content: bytes) -> None:
        """Write one file, unless no archive could bring it, or the system has no such name."""
        path = PurePosixPath(name.decode("utf-8", "surrogateescape"))
        if b"\0" in name or len(name) > LONGEST_NAME or path.is_absolute() or ".." in path.parts:
            return
        try:
            (self._raw / path).parent.mkdir(parents=True, exist_ok=True)
            (self._raw / path).write_bytes(content)
        except OSError:  # a file stands where this one wants a folder
            return


def _folders() -> Iterator[tuple[bytes, Mapping[str, bytes]]]:
    image = _png()
    test = {"test/3.png": image, "test/4.png": image}
    classes = ("cat", "dog")
    yield b"", {f"train/{name}/{n}.png": image for name in classes for n in (1, 2)} | test
    yield b"", {f"train/{name}.{n}.png": image for name in classes for n in (1, 2)} | test
    listed = {"train/1.png": image, "train/2.png": image, **test}
    sample = {"sample_submission.csv": b"id,label\n3,cat\n4,cat\n"}
    yield b"", {**listed, **sample, "train.csv": b"id,label\n1,dog\n2,cat\n"}
    indicators = {"sample_submission.csv": b"id,cat,dog\n3,0,0\n4,0,0\n"}
    yield b"", {**listed, **indicators, "train.csv": b"id,cat,dog\n1,0,1\n2,1,1\n"}
    yield b"cells", {**listed, **sample, "train.csv": b"id,labels,group\n1,dog cat,a\n2,cat,b\n"}
    images, labels = np.arange(128, dtype=np.uint8).reshape(2, 8, 8), np.array([0, 1], np.uint8)
    numbered = {"sample_submission.csv": b"id,label\n1,0\n2,0\n"}
    yield b"", {"train.csv": _pixels(images, b"01"), "test.csv": _pixels(images), **numbered}
    idx = {"train-images-idx3-ubyte": _idx(images), "t10k-images-idx3-ubyte": _idx(images)}
    packed = gzip.compress(_idx(labels), mtime=0)
    yield b"", {**idx, "train-labels-idx1-ubyte.gz": packed, **numbered}
    arrays = {"x_train": images, "y_train": labels, "x_test": images}
    yield b"", {"mnist.npz": _npz(arrays), **numbered}
    yield b"", {**{f"{name}.npy": _npy(array) for name, array in arrays.items()}, **numbered}


def _pixels(images: NDArray[np.uint8], labels: bytes = b"") -> bytes:
    rows = pd.DataFrame(images.reshape(len(images), -1)).add_prefix("pixel")
    if labels:
        rows.insert(0, "label", list(labels.decode()))
    return rows.to_csv(index=False).encode()


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), 7).save(file, "png")
    return file.getvalue()


def _idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def _npy(array: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _npz(arrays: Mapping[str, NDArray[np.uint8]]) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()
