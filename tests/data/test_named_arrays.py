"""Arrays are what their files hold, whatever the files are called."""

import numpy as np
import pytest

from pipeline.competition import Competition
from pipeline.data.layouts import read_layout
from pipeline.data.layouts.array_images import to_images
from pipeline.errors import DataError


def test_an_archive_called_an_array_is_to_be_renamed(tmp_path):
    images = np.zeros((2, 8, 8), np.uint8)
    np.save(tmp_path / "y_train.npy", np.arange(2))
    np.save(tmp_path / "x_test.npy", images)
    np.savez(tmp_path / "x_train.npz", images)
    (tmp_path / "x_train.npz").rename(tmp_path / "x_train.npy")

    with pytest.raises(DataError, match=r"x_train.npy cannot be read .* rename it to .npz"):
        read_layout(tmp_path, Competition(slug="pets"))


def test_an_array_called_an_archive_is_to_be_renamed(tmp_path):
    np.save(tmp_path / "x_train.npy", np.zeros((2, 8, 8), np.uint8))
    (tmp_path / "x_train.npy").rename(tmp_path / "x_train.npz")

    with pytest.raises(DataError, match=r"x_train.npz cannot be read .* rename it to .npy"):
        read_layout(tmp_path, Competition(slug="pets"))


def test_small_numbers_in_16_bits_are_as_bright_as_in_any_other_type():
    pixels = np.array([[[0, 255], [7, 100]]])
    for kind in (np.uint16, np.int32, np.float32):
        assert to_images(pixels.astype(kind), "x.npy").dtype == np.uint8
    assert to_images((pixels * 257).astype(np.uint16), "x.npy").max() == 65535
