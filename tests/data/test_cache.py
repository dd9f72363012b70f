"""The cache holds exactly what was decoded, and a failed build leaves nothing."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from pipeline.competition import Competition, DataSpec
from pipeline.data.cache import CACHE_VERSION, Part, build_cache, load_cache
from pipeline.data.contact_sheet import write_contact_sheet
from pipeline.data.images import ImageForm, decode_image
from pipeline.data.layouts import RawDataset, RawPart
from pipeline.data.row_file import row_file
from pipeline.errors import DataError, StorageError

RNG = np.random.default_rng(0)


def array_dataset(ids, test_ids=("t",), *, images=None, groups=None, **data) -> RawDataset:
    images = RNG.integers(0, 256, (len(ids), 8, 8, 3), np.uint8) if images is None else images
    labels = ["ab"[row % 2] for row in range(len(ids))]
    return RawDataset(
        train=RawPart(list(ids), images, labels, groups),
        test=RawPart(list(test_ids), images[: len(test_ids)]),
        classes=("a", "b"),
        layout="arrays",
        competition=Competition(slug="pets", data=DataSpec(**data)),
    )


def file_dataset(folder, count) -> RawDataset:
    paths = []
    for row in range(count):
        paths.append(folder / f"{row}.png")
        Image.fromarray(RNG.integers(0, 256, (9, 8, 3), np.uint8)).save(paths[-1])
    return RawDataset(
        train=RawPart(
            [path.stem for path in paths], paths, ["ab"[row % 2] for row in range(count)]
        ),
        test=RawPart([path.name for path in paths], paths),
        classes=("a", "b"),
        layout="table",
        competition=Competition(slug="pets"),
    )


def test_files_come_back_as_they_were(tmp_path):
    dataset = file_dataset(tmp_path, 150)
    reason = build_cache(dataset, tmp_path)
    assert reason == "9x8x3: all images have this size; colour"
    cache = load_cache(tmp_path)
    assert cache.classes == ("a", "b")
    assert cache.train.images.shape == (150, 9, 8, 3)
    assert cache.train.images.dtype == torch.uint8
    for row, path in enumerate(dataset.train.images):
        np.testing.assert_array_equal(cache.train.images[row].numpy(), np.asarray(Image.open(path)))
    assert cache.train.ids == dataset.train.ids
    assert cache.train.labels.dtype == torch.int64
    assert cache.train.labels.tolist() == [row % 2 for row in range(150)]
    assert (cache.test.ids, cache.test.labels, cache.test.groups) == (dataset.test.ids, None, None)


def test_arrays_groups_and_a_set_size(tmp_path):
    dataset = array_dataset(["x", "y"], groups=["p1", "p2"])
    build_cache(dataset, tmp_path)
    cache = load_cache(tmp_path)
    np.testing.assert_array_equal(cache.train.images.numpy(), dataset.train.images)
    assert cache.train.groups == ["p1", "p2"]
    deep = RNG.integers(0, 2**16, (2, 8, 8), np.uint16)
    build_cache(array_dataset(["x", "y"], images=deep, size=16), tmp_path)
    assert load_cache(tmp_path).train.images.shape == (2, 16, 16, 1)


def test_classes_keep_the_order_of_the_definition(tmp_path):
    build_cache(replace(array_dataset(["x", "y"]), classes=("b", "a")), tmp_path)
    cache = load_cache(tmp_path)
    assert cache.classes == ("b", "a")
    assert cache.train.labels.tolist() == [1, 0]


def test_images_of_both_parts_decide_the_form(tmp_path):
    grey, colour = RNG.integers(0, 256, (1, 8, 8), np.uint8), array_dataset(["x"]).train.images
    for train, test in ((grey, colour), (colour, grey)):
        dataset = array_dataset(["x"], images=train)
        build_cache(replace(dataset, test=RawPart(["t"], test)), tmp_path)
        cache = load_cache(tmp_path)
        assert cache.train.images.shape == cache.test.images.shape == (1, 8, 8, 3)


@given(ids=st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_any_ids_survive(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp("cache")
    build_cache(array_dataset(ids, images=np.zeros((len(ids), 8, 8), np.uint8)), folder)
    assert load_cache(folder).train.ids == ids


def test_corrupt_images_are_counted_and_nothing_is_left(tmp_path):
    raw, cache = tmp_path / "raw", tmp_path / "cache"
    raw.mkdir()
    cache.mkdir()
    dataset = file_dataset(raw, 80)
    data = dataset.train.images[3].read_bytes()
    dataset.train.images[3].write_bytes(data[: len(data) // 2])
    dataset.train.images[70].write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"^4 of 160 images cannot be decoded, first .*raw/3\.png"):
        build_cache(dataset, cache)
    assert list(cache.iterdir()) == []
    for path in dataset.train.images:
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"^160 of 160 images cannot .* first .*raw/0\.png"):
        build_cache(dataset, cache)


def test_a_full_disk_leaves_nothing(tiny_disk):
    images = np.zeros((30_000, 8, 8), np.uint8)
    dataset = array_dataset([str(row) for row in range(30_000)], images=images)
    with pytest.raises(StorageError, match=r"disk full while writing .*train\.safetensors"):
        build_cache(dataset, tiny_disk)
    assert list(tiny_disk.iterdir()) == []


def test_a_disk_that_fills_up_while_decoding_leaves_nothing(tiny_disk, tmp_path, monkeypatch):
    """As where space cannot be reserved."""
    monkeypatch.delattr(os, "posix_fallocate")
    dataset = file_dataset(tmp_path, 64)
    dataset = replace(dataset, competition=Competition(slug="pets", data=DataSpec(size=128)))
    with pytest.raises(StorageError, match=r"disk full while writing .*train\.safetensors"):
        build_cache(dataset, tiny_disk)
    assert list(tiny_disk.iterdir()) == []


@pytest.mark.parametrize("labels", [torch.arange(5), torch.ones(5, 3, dtype=torch.bool), None])
def test_rows_make_the_bytes_of_the_library(tmp_path, labels):
    images = torch.from_numpy(RNG.integers(0, 256, (5, 3, 2, 1), np.uint8))
    tensors = {"images": images, "ids.bytes": torch.arange(7, dtype=torch.uint8)}
    tensors |= {} if labels is None else {"labels": labels}
    metadata = {"about": json.dumps({"title": 'größer "so"'})}
    save_file(tensors, tmp_path / "library", metadata)

    with row_file(tmp_path / "own", tensors | {"images": images.to("meta")}, metadata) as file:
        for row in reversed(range(5)):
            file.write(row, images[row].numpy())

    assert (tmp_path / "own").read_bytes() == (tmp_path / "library").read_bytes()


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_images_of_many_sizes_get_one(tmp_path, resize):
    dataset = file_dataset(tmp_path, 3)
    Image.new("RGB", (30, 10)).save(dataset.train.images[1])
    dataset = replace(dataset, competition=Competition(slug="pets", data=DataSpec(resize=resize)))
    reason = build_cache(dataset, tmp_path)
    assert reason.endswith("colour" if resize == "crop" else f"colour; [data] resize = {resize}")
    images = load_cache(tmp_path).train.images
    assert images.shape == (3, 64, 64, 3)
    expected = decode_image(dataset.train.images[0], ImageForm(64, 64, 3, "", resize))
    np.testing.assert_array_equal(images[0].numpy(), expected)


def test_a_damaged_cache_says_so(tmp_path):
    build_cache(array_dataset(["x", "y"]), tmp_path)
    path = tmp_path / "test.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"test.safetensors cannot be read .* rerun"):
        load_cache(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"test.safetensors cannot be read"):
        load_cache(tmp_path)


def test_a_cache_of_another_version_is_refused(tmp_path, monkeypatch):
    build_cache(array_dataset(["x", "y"]), tmp_path)
    monkeypatch.setattr("pipeline.data.cache.CACHE_VERSION", CACHE_VERSION + 1)

    with pytest.raises(
        DataError, match=r"train\.safetensors has cache version \d+, not \d+; delete"
    ):
        load_cache(tmp_path)


def test_the_contact_sheet_shows_the_first_images(tmp_path):
    images = torch.zeros(70, 8, 6, 3, dtype=torch.uint8)
    images[0, :, :, 0] = 255
    part = Part(images, [str(row) for row in range(70)], torch.arange(70) % 2)
    write_contact_sheet(part, ("cat", "a class with a very long name"), tmp_path / "sheet.png")
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.getpixel((4 + 56, 4 + 56)) == (255, 0, 0)
    assert sheet.getpixel((4 + 116 + 56, 4 + 56)) == (0, 0, 0)
    grey = Part(images[:3, :, :, :1], ["x", "y", "z"])
    write_contact_sheet(grey, (), tmp_path / "grey.png")
    assert Image.open(tmp_path / "grey.png").getpixel((60, 60)) == (255, 255, 255)


def test_captions_of_the_contact_sheet_have_letters_of_other_languages_on_one_line(tmp_path):
    part = Part(torch.zeros(5, 8, 8, 1, dtype=torch.uint8), ["é", "ж", "ß", "\uffff", "é\n\n"])
    write_contact_sheet(part, (), tmp_path / "sheet.png")

    sheet = Image.open(tmp_path / "sheet.png")

    captions = [sheet.crop((x, 116, x + 112, 136)).tobytes() for x in range(4, 4 + 5 * 116, 116)]
    assert len({*captions[:4]}) == 4  # none is the box of a letter that the font does not have
    assert captions[4] == captions[0]
