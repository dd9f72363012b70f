"""What there is, counted."""

import numpy as np
import pytest
from PIL import Image

from pipeline.audit.inventory import class_counts, file_sizes, plain_images
from pipeline.data.layouts import RawPart
from pipeline.errors import DataError
from tests.audit.pictures import cache_of, photographs


def test_classes_are_counted_in_their_order():
    data = cache_of(photographs()[:4], photographs()[:1], np.array([1, 1, 0, 1]))

    assert class_counts(data.train, data.classes) == [
        {"class": "cat", "images": 1, "share": 0.25},
        {"class": "dog", "images": 3, "share": 0.75},
    ]


def test_of_several_labels_each_counts_alone():
    cells = np.array([[1, 0], [1, 1], [0, 0], [1, 0]], dtype=bool)
    data = cache_of(photographs()[:4], photographs()[:1], cells)

    counts = class_counts(data.train, data.classes)

    assert [row["images"] for row in counts] == [3, 1]
    assert [row["share"] for row in counts] == [0.75, 0.25]


def test_files_are_counted_by_size_and_format(tmp_path):
    pieces = photographs()
    for name, image in {
        "0.png": Image.fromarray(pieces[0]),
        "1.jpg": Image.fromarray(pieces[1]),
        "2.png": Image.fromarray(pieces[2]).resize((40, 30)),
        "3.png": Image.fromarray(pieces[3]).convert("L"),
    }.items():
        image.save(tmp_path / name)
    train = RawPart(["0", "1", "2"], [tmp_path / name for name in ("0.png", "1.jpg", "2.png")])
    test = RawPart(["3"], [tmp_path / "3.png"])

    found = file_sizes(train, test)

    assert found["sizes"] == [
        {"name": "64 x 64", "train": 2, "test": 0},
        {"name": "40 x 30", "train": 1, "test": 0},
        {"name": "64 x 64 grey", "train": 0, "test": 1},
    ]
    assert found["formats"] == [
        {"name": "png", "train": 2, "test": 1},
        {"name": "jpg", "train": 1, "test": 0},
    ]
    (tmp_path / "3.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"3\.png"):
        file_sizes(train, test)


def test_arrays_have_one_size():
    part = RawPart(["a", "b"], np.zeros((2, 28, 20), np.uint8))

    assert file_sizes(part, part) == {
        "sizes": [{"name": "20 x 28 grey", "train": 2, "test": 2}],
        "formats": [{"name": "array", "train": 2, "test": 2}],
    }


def test_images_of_one_colour_are_named():
    pieces = photographs()[:3]
    grey = np.full_like(pieces[:1], 130)
    red = np.full_like(pieces[:1], (255, 0, 0))

    plain = plain_images(cache_of(np.concatenate([pieces, grey, red]), pieces))

    assert plain == {"train": ["a3", "a4"], "test": []}
