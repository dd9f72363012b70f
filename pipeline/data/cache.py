"""The tensor cache: a competition's images decoded once, loaded by memory map.

A cache folder holds train.safetensors and test.safetensors, each with one uint8 array of images
[N, H, W, C], ids as UTF-8 bytes with offsets, and labels and groups where there are any.
The description in each file's metadata holds the classes and why the images have this size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from pipeline.artifacts import storage_errors
from pipeline.data.images import (
    ImageForm,
    Probe,
    choose_form,
    decode_image,
    decode_pixels,
    probe_array,
    probe_image,
)
from pipeline.data.layouts import RawDataset, RawPart
from pipeline.data.row_file import RowFile, mapped_tensor, row_file
from pipeline.errors import DataError
from pipeline.reading import read_errors

CACHE_VERSION = 2
_PARTS = ("train", "test")
_DESCRIPTION = "tensor_cache"
_IMAGES = "images"
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Part:
    """Training or test images, uint8 [N, H, W, C] and memory-mapped, with what belongs to them.

    Labels are class numbers int64 [N] or, where an image may have several, bool [N, classes].
    """

    images: Tensor
    ids: list[str]
    labels: Tensor | None = None
    groups: list[str] | None = None

    def known_labels(self) -> Tensor:
        """The labels, int64 [N] or bool [N, classes].

        Raises:
            DataError: these images have none.
        """
        if self.labels is None:
            raise DataError("the training images have no labels; delete the cache and rerun")
        return self.labels


@dataclass(frozen=True, slots=True)
class TensorCache:
    """Both parts; a label counts `classes`."""

    train: Part
    test: Part
    classes: tuple[str, ...]

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.train.known_labels().ndim == 2


def build_cache(dataset: RawDataset, folder: Path) -> str:
    """Decode all images in parallel to `folder`; returns the size chosen and why.

    Raises:
        DataError: images cannot be decoded; names how many and the first.
        StorageError: the disk is full, the folder cannot be written or an image may not be read;
            no file is left.
    """
    try:
        with read_errors(folder):
            return _build(dataset, folder)
    except BaseException:
        for name in _PARTS:
            _file(folder, name).unlink(missing_ok=True)
        raise


def load_cache(folder: Path) -> TensorCache:
    """Load a cache; images stay on disk until they are used.

    Raises:
        DataError: the cache is damaged or of another version.
        StorageError: the cache may not be read.
    """
    train, classes = _load_part(_file(folder, "train"))
    test, _ = _load_part(_file(folder, "test"))
    return TensorCache(train, test, classes)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _build(dataset: RawDataset, folder: Path) -> str:
    parts = dict(zip(_PARTS, (dataset.train, dataset.test), strict=True))
    count = sum(len(part.ids) for part in parts.values())
    probes, failures = _probe(parts)
    if not probes:
        raise _undecodable(failures, count)
    data = dataset.competition.data
    form = choose_form(probes, data.size, data.resize or "crop")
    description = {
        "version": CACHE_VERSION,
        "axes": "NHWC",
        "form": form.reason,
        "layout": dataset.layout,
        "classes": dataset.classes,
    }
    # One key, since safetensors writes several in an order that changes from run to run.
    metadata = {_DESCRIPTION: json.dumps(description)}
    failures = []
    for name, part in parts.items():
        shape = (len(part.ids), form.height, form.width, form.channels)
        images = torch.empty(shape, dtype=torch.uint8, device="meta")
        path = _file(folder, name)
        with (
            storage_errors(path),
            row_file(path, _tensors(part, images, dataset.classes), metadata) as file,
        ):
            failures += _decode(name, part, form, file)
    if failures:
        raise _undecodable(failures, count)
    return form.reason


def _probe(parts: dict[str, RawPart]) -> tuple[set[Probe], list[str]]:
    """The sizes of all images that have a readable header, and what is wrong with the others."""
    probes: set[Probe] = set()
    failures: list[str] = []
    for name, part in parts.items():
        images = part.images
        if isinstance(images, np.ndarray):
            probes.add(probe_array(images))
            continue

        def probe(row: int, paths: list[Path] = images) -> None:
            probes.add(probe_image(paths[row]))

        failures += _for_each(probe, len(images), f"{name} sizes")
    return probes, failures


def _decode(name: str, part: RawPart, form: ImageForm, file: RowFile) -> list[str]:
    """Put all images of a part into the file; what is wrong with those that cannot be decoded."""
    images = part.images

    def decode(row: int) -> None:
        if isinstance(images, np.ndarray):
            file.write(row, decode_pixels(images[row], form))
        else:
            file.write(row, decode_image(images[row], form))

    return _for_each(decode, len(images), f"{name} images")


def _for_each(work: Callable[[int], None], count: int, title: str) -> list[str]:
    """Do `work` for every row in parallel, with a progress bar; the messages of its DataErrors.

    However it ends, no thread works on.
    """

    def work_on_chunk(start: int) -> list[str]:
        failures = []
        for row in range(start, min(start + _CHUNK, count)):
            try:
                work(row)
            except DataError as err:
                failures.append(str(err))
        return failures

    failures = []
    workers = ThreadPoolExecutor(os.cpu_count())  # Pillow decodes without holding the GIL
    try:
        with tqdm(total=count, desc=title, unit="image", dynamic_ncols=True) as progress:
            for failed in workers.map(work_on_chunk, range(0, count, _CHUNK)):
                failures += failed
                progress.update(min(_CHUNK, count - progress.n))
    finally:
        workers.shutdown(cancel_futures=True)
    return failures


def _undecodable(failures: Sequence[str], count: int) -> DataError:
    return DataError(
        f"{len(failures)} of {count} images cannot be decoded, first {failures[0]}; download them "
        "again, or remove them with their rows in the tables"
    )


def _tensors(part: RawPart, images: Tensor, classes: tuple[str, ...]) -> dict[str, Tensor]:
    tensors = {"images": images, **_text_tensors("ids", part.ids)}
    positions = {name: position for position, name in enumerate(classes)}
    if part.labels is not None:
        tensors["labels"] = torch.tensor([positions[label] for label in part.labels])
    if part.label_sets is not None:
        tensors["labels"] = torch.zeros(len(part.ids), len(classes), dtype=torch.bool)
        for row, names in enumerate(part.label_sets):
            tensors["labels"][row, [positions[name] for name in names]] = True
    if part.groups is not None:
        tensors |= _text_tensors("groups", part.groups)
    return tensors


def _text_tensors(name: str, texts: Sequence[str]) -> dict[str, Tensor]:
    """Texts as their bytes in one tensor, and in another where each one starts and ends."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    data = np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8)
    return {f"{name}.bytes": torch.from_numpy(data), f"{name}.offsets": torch.from_numpy(ends)}


def _texts(name: str, tensors: dict[str, Tensor]) -> list[str]:
    data = tensors[f"{name}.bytes"].numpy().tobytes()
    ends = tensors[f"{name}.offsets"].tolist()
    return [data[start:end].decode() for start, end in pairwise(ends)]


def _load_part(path: Path) -> tuple[Part, tuple[str, ...]]:
    try:
        with read_errors(path):
            path.open("rb").close()  # safetensors says of all that it cannot open: no such file
        with safe_open(path, framework="np") as file:
            description = json.loads((file.metadata() or {}).get(_DESCRIPTION, "{}"))
            small = [name for name in file.keys() if name != _IMAGES]  # noqa: SIM118
            tensors = {name: torch.from_numpy(file.get_tensor(name)) for name in small}
        images = mapped_tensor(path, _IMAGES)
    except (SafetensorError, OSError, KeyError) as err:
        raise DataError(f"{path} cannot be read ({err}); delete {path.parent} and rerun") from err
    if description.get("version") != CACHE_VERSION:
        raise DataError(
            f"{path} has cache version {description.get('version')}, not {CACHE_VERSION}; "
            f"delete {path.parent} and rerun"
        )
    part = Part(
        images=images,
        ids=_texts("ids", tensors),
        labels=tensors.get("labels"),
        groups=_texts("groups", tensors) if "groups.bytes" in tensors else None,
    )
    return part, tuple(description["classes"])
