"""What the competitions are built from, and what they give away."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import tarfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.competition import Competition, shipped_competitions
from pipeline.errors import DataError, HostError
from pipeline.host import layouts
from pipeline.host.catalog import RECIPES, available_competitions
from pipeline.host.layouts import number
from pipeline.host.preparation import build, hidden_labels, write_archive
from pipeline.host.services import Services
from pipeline.host.sources.cifar10 import ARCHIVE_VARIABLE, decode_archive, read_archive
from pipeline.host.sources.fetch import (
    download,
    first_that_works,
    npm_package,
    removed_if_damaged,
)
from pipeline.host.sources.images import Collection, Labelled
from pipeline.host.sources.mnist import parse_idx
from pipeline.host.state import State
from tests.host.running import Host

IMAGES_PER_BATCH = 4
PETS = Competition(slug="pets", classes=("bird", "cat", "dog"))
NUMBERS = Competition(slug="numbers", classes=("0", "1", "2"))


def labelled(count: int, shape: tuple[int, ...], seed: int) -> Labelled:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return Labelled(images, (np.arange(count) % len(PETS.classes)).astype(np.uint8))


@pytest.fixture
def cifar() -> Collection:
    return Collection(
        labelled(5 * IMAGES_PER_BATCH, (32, 32, 3), seed=1),
        labelled(IMAGES_PER_BATCH, (32, 32, 3), seed=2),
    )


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def batches(collection: Collection) -> dict[str, Labelled]:
    parts = {
        f"data_batch_{n + 1}": collection.train.take(
            np.arange(n * IMAGES_PER_BATCH, (n + 1) * IMAGES_PER_BATCH)
        )
        for n in range(5)
    }
    return {**parts, "test_batch": collection.test}


def planes(part: Labelled) -> np.ndarray:
    return part.images.transpose(0, 3, 1, 2).reshape(len(part), -1)


def binary_archive(path: Path, collection: Collection) -> Path:
    return pack(
        path,
        {
            f"cifar-10-batches-bin/{name}.bin": np.column_stack(
                [part.labels, planes(part)]
            ).tobytes()
            for name, part in batches(collection).items()
        },
    )


def python2_pickle(part: Labelled, command: bytes = b"exit 1") -> bytes:
    """A batch as Python 2 pickled it: byte strings, and ends with code that must not run."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<I", len(value)) + value

    numbers = b"".join(b"K" + bytes([label]) for label in part.labels)
    harmful = b"cos\nsystem\n(" + text(command) + b"tR0"
    pairs = text(b"data") + text(planes(part).tobytes()) + text(b"labels") + b"](" + numbers + b"e"
    return b"\x80\x02}(" + pairs + b"u" + harmful + b"."


def python_archive(path: Path, collection: Collection, command: bytes = b"exit 1") -> Path:
    return pack(
        path,
        {
            f"cifar-10-batches-py/{name}": python2_pickle(part, command)
            for name, part in batches(collection).items()
        },
    )


def sheets_archive(path: Path, collection: Collection) -> Path:
    files = {}
    for name, part in batches(collection).items():
        sheet = io.BytesIO()
        Image.fromarray(part.images.reshape(len(part), -1, 3)).save(sheet, "png")
        files[f"package/{name}.png"] = sheet.getvalue()
    for name, part in (("train", collection.train), ("test", collection.test)):
        files[f"package/{name}_lables.json"] = json.dumps(part.labels.tolist()).encode()
    return pack(path, files)


@pytest.mark.parametrize("archive_of", [binary_archive, python_archive, sheets_archive])
def test_every_cifar_archive_gives_the_same_arrays(archive_of, cifar, tmp_path) -> None:
    archive = archive_of(tmp_path / "cifar.tar.gz", cifar)
    decoded = decode_archive(archive)
    for found, expected in ((decoded.train, cifar.train), (decoded.test, cifar.test)):
        np.testing.assert_array_equal(found.images, expected.images)
        np.testing.assert_array_equal(found.labels, expected.labels)
    with pytest.raises(DataError, match=r"cifar\.tar\.gz: the images differ from the published"):
        read_archive(archive)


def test_python_batches_are_what_pickle_would_load(cifar: Collection) -> None:
    part = cifar.test
    content = python2_pickle(part).replace(b"cos\nsystem\n", b"cbuiltins\nlen\n")
    loaded = pickle.loads(content, encoding="latin-1")
    assert loaded["labels"] == part.labels.tolist()


def test_code_in_python_batches_does_not_run(cifar: Collection, tmp_path: Path) -> None:
    marker = tmp_path / "attacked"
    command = f"touch {marker}".encode()
    pickle.loads(python2_pickle(cifar.test, command), encoding="latin-1")
    assert marker.exists()
    marker.unlink()

    decode_archive(python_archive(tmp_path / "cifar.tar.gz", cifar, command))

    assert not marker.exists()


@pytest.mark.parametrize("cut", [10, 5000])
def test_damaged_archive(cut: int, cifar: Collection, tmp_path: Path) -> None:
    archive = binary_archive(tmp_path / "cifar.tar.gz", cifar)
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(DataError, match="damaged or not a CIFAR-10 archive"):
        read_archive(archive)


def test_all_sources_fail_fast_and_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError) as caught:
        first_that_works(
            "the data",
            {
                "download": lambda: read_archive(download("http://127.0.0.1:9/x", tmp_path / "x")),
                "npm": lambda: read_archive(npm_package("x", "1.0.0", "", tmp_path)),
            },
        )
    assert "no source of the data works here" in str(caught.value)
    assert "http://127.0.0.1:9/x cannot be downloaded" in str(caught.value)
    assert "npm: npm is not installed" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_kept_archive_with_another_hash_is_removed(tmp_path: Path) -> None:
    archive = tmp_path / "x-1.0.0.tgz"
    archive.write_bytes(b"other bytes")
    with pytest.raises(DataError, match=r"x-1\.0\.0\.tgz has SHA-256"):
        npm_package("x", "1.0.0", "0" * 64, tmp_path)
    assert not archive.exists()


def test_competitions_that_want_the_same_archive_at_once(tmp_path: Path) -> None:
    content, first_half = os.urandom(2**21), threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: 2**20])
            first_half.set()
            time.sleep(0.2)
            self.wfile.write(content[2**20 :])

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server, ThreadPoolExecutor() as pool:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/archive"

        def fetched() -> bytes:
            return download(url, tmp_path / "archive").read_bytes()

        first = pool.submit(fetched)
        first_half.wait()
        try:
            assert fetched() == first.result() == content
        finally:
            server.shutdown()


def test_damaged_download_is_removed(tmp_path: Path) -> None:
    archive = tmp_path / "cifar.tar.gz"
    archive.write_bytes(b"damaged")
    with pytest.raises(DataError), removed_if_damaged(archive):
        read_archive(archive)
    assert not archive.exists()


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x01\0\0\0\x05abc", b"\0\0\x0d\x01"])
def test_damaged_idx(content: bytes) -> None:
    with pytest.raises(DataError, match="t10k"):
        parse_idx(content, "t10k")


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        (layouts.folders, {"train/bird/1.png", "train/cat/2.png", "test/7.png"}),
        (layouts.table, {"train.csv", "train/1.png", "test/7.png"}),
        (layouts.pixels, {"train.csv", "test.csv"}),
        (layouts.idx, {"train-images-idx3-ubyte", "t10k-images-idx3-ubyte"}),
    ],
)
def test_layouts(layout, names: set[str], tmp_path: Path) -> None:
    train, test = labelled(6, (8, 8), seed=3), labelled(3, (8, 8), seed=4)
    competition = PETS if layout is layouts.folders else NUMBERS
    files = dict(layout(number(train, competition, 1), number(test, competition, 7)))
    assert names <= set(files)
    if "test/7.png" in names:
        served = np.asarray(Image.open(io.BytesIO(files["test/7.png"])))
        np.testing.assert_array_equal(served, test.images[0])
    if layout is layouts.idx:
        served = parse_idx(files["t10k-images-idx3-ubyte"], "t10k")
        np.testing.assert_array_equal(served, test.images)


def test_same_source_gives_the_same_zip(host: Host, tmp_path: Path) -> None:
    state = State(tmp_path)
    services = Services.open(state)
    build("digits", state, services.contests)
    assert state.archive("digits").read_bytes() == State(host.state).archive("digits").read_bytes()
    pd.testing.assert_frame_equal(services.contests.solution("digits"), host.solution())


def test_nothing_served_holds_a_hidden_label(host: Host) -> None:
    solution = host.solution()
    assert len(solution) == 500
    with zipfile.ZipFile(State(host.state).archive("digits")) as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
        sample = pd.read_csv(archive.open("sample_submission.csv"), dtype=str)
        test = pd.read_csv(archive.open("test.csv"), dtype={"id": str})
        train = pd.read_csv(archive.open("train.csv"), dtype={"id": str})
    assert sample["label"].nunique() == 1
    assert sample["id"].tolist() == test["id"].tolist() == solution.index.sort_values().tolist()
    assert "label" not in test.columns
    assert not set(train["id"]) & set(test["id"])
    assert not any(train.drop(columns=["id", "label"]).columns != test.columns[1:])


def test_ids_tell_nothing_about_the_labels(host: Host) -> None:
    labels = host.solution()["label"].sort_index(key=lambda ids: ids.astype(int))
    neighbours_alike = (labels.to_numpy()[1:] == labels.to_numpy()[:-1]).mean()
    assert neighbours_alike == pytest.approx(0.1, abs=0.05)
    assert abs(np.corrcoef(np.arange(len(labels)), labels.astype(int))[0, 1]) < 0.15


def test_thirty_percent_of_each_class_is_public() -> None:
    part = number(labelled(300, (8, 8), seed=5), PETS, 1)
    solution = hidden_labels(part)
    assert solution.groupby("label")["public"].sum().tolist() == [30, 30, 30]


def test_archive_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    def files():
        yield "a.txt", b"a"
        raise DataError("the source broke off")

    with pytest.raises(DataError):
        write_archive(tmp_path / "x" / "x.zip", files())
    assert list((tmp_path / "x").iterdir()) == []


def test_every_competition_has_a_shipped_definition() -> None:
    assert set(available_competitions()) <= set(shipped_competitions())


@pytest.mark.skipif(
    not os.environ.get(ARCHIVE_VARIABLE),
    reason=f"{ARCHIVE_VARIABLE} names no archive, and fetching one takes 140 MB",
)
def test_dog_vs_cat_vs_bird_from_the_published_images(tmp_path: Path) -> None:
    collection = RECIPES["dog-vs-cat-vs-bird"].load(tmp_path)
    assert np.bincount(collection.train.labels).tolist() == [4000, 4000, 4000]
    assert np.bincount(collection.test.labels).tolist() == [1000, 1000, 1000]
    digests = [
        hashlib.sha256(part.images).hexdigest()[:12] for part in (collection.train, collection.test)
    ]
    assert digests == ["fabdca8de426", "d8cf76b3b6fd"]
