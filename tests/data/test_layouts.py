"""Every layout is read from real files, and what cannot be decided is asked for by its key."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.competition import Competition, DataSpec, SubmissionSpec
from pipeline.data.layouts import RawPart, mirror_reason, read_layout
from pipeline.data.layouts.labels import checked_labels
from pipeline.errors import ConfigError
from tests.data.raw_files import idx_bytes, put, put_images

PETS = Competition(slug="pets")


def names_of(images, root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in images]


def test_a_folder_per_class(tmp_path):
    put_images(tmp_path, ["train/cat/1.png", "train/cat/2.png", "train/dog/1.png"])
    put_images(tmp_path, ["test/b.png", "test/a.png"])
    put(tmp_path, "sample_submission.csv", "id,label\nb.png,cat\na.png,cat\n")
    data = read_layout(tmp_path, PETS)
    assert data.layout == "folders"
    assert data.classes == ("cat", "dog")
    assert data.train.ids == ["cat/1", "cat/2", "dog/1"]
    assert data.train.labels == ["cat", "cat", "dog"]
    assert data.test.ids == ["b.png", "a.png"]
    assert names_of(data.test.images, tmp_path) == ["test/b.png", "test/a.png"]
    assert data.competition.data == DataSpec(
        layout="folders", train="train", test="test", mirror=True
    )
    assert data.competition.submission == SubmissionSpec(sample="sample_submission.csv", id="id")


def test_class_folders_without_a_folder_called_train(tmp_path):
    put_images(tmp_path, ["pets/cat/1.png", "pets/cat/2.png", "pets/dog/3.png", "tests/x/4.png"])
    data = read_layout(tmp_path, PETS)
    assert (data.layout, data.train.labels) == ("folders", ["cat", "cat", "dog"])
    assert data.test.ids == ["4"]


def test_a_table_of_labels_keeps_ids_as_text(table):
    data = read_layout(table, PETS)
    assert data.layout == "table"
    assert data.train.ids == ["1e3", "0001", "0002"]
    assert names_of(data.train.images, table)[0] == "train/1e3.png"
    assert data.train.labels == ["cat", "dog", "cat"]
    assert data.test.ids == ["0010", "0007"]
    assert data.competition.data.train_labels == "train.csv"
    assert data.competition.data.label_column == "label"


def test_what_was_inferred_reads_the_same_data_again(table):
    data = read_layout(table, PETS)
    again = read_layout(table, data.competition)
    assert again == data


def test_a_table_with_extensions_folders_and_groups(tmp_path):
    put_images(tmp_path, ["train/a/1.png", "train/a/2.png", "train/b/1.png", "test/9.png"])
    put(
        tmp_path,
        "labels.csv",
        "image,patient,label\ntrain/a/1.png,p1,cat\ntrain/a/2.png,p1,dog\ntrain/b/1.png,p2,cat\n",
    )
    spec = DataSpec(layout="table", group_column="patient")
    data = read_layout(tmp_path, replace(PETS, data=spec))
    assert data.train.groups == ["p1", "p1", "p2"]
    assert data.train.labels == ["cat", "dog", "cat"]
    assert data.test.ids == ["9"]


def test_one_folder_for_training_and_test_is_split_by_the_sample(tmp_path):
    put_images(tmp_path, [f"images/{n}.png" for n in ("Train_0", "Train_1", "Test_0")])
    put(tmp_path, "train.csv", "image_id,label\nTrain_0,cat\nTrain_1,dog\n")
    put(tmp_path, "test.csv", "image_id\nTest_0\n")
    put(tmp_path, "sample_submission.csv", "image_id,label\nTest_0,cat\n")
    data = read_layout(tmp_path, PETS)
    assert (data.train.ids, data.test.ids) == (["Train_0", "Train_1"], ["Test_0"])


@pytest.mark.parametrize(
    "names", [["cat.0", "cat.1", "dog.0", "dog.1"], ["cat_0", "cat (1)", "dog12", "dog-3"]]
)
def test_labels_in_file_names(tmp_path, names):
    put_images(tmp_path, [f"train/{name}.png" for name in names])
    put_images(tmp_path, ["test1/1.png", "test1/2.png", "test1/10.png"])
    put(tmp_path, "sampleSubmission.csv", "id,label\n1,0\n2,0\n10,0\n")
    data = read_layout(tmp_path, PETS)
    assert (data.layout, data.classes) == ("filenames", ("cat", "dog"))
    assert sorted(data.train.labels) == ["cat", "cat", "dog", "dog"]
    assert names_of(data.test.images, tmp_path) == ["test1/1.png", "test1/2.png", "test1/10.png"]


@pytest.mark.parametrize("has_ids", [True, False])
def test_pixel_columns(tmp_path, has_ids):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 64))
    columns = [f"pixel{n}" for n in range(64)]
    train, test = (
        pd.DataFrame(pixels[:3], columns=columns),
        pd.DataFrame(pixels[3:], columns=columns),
    )
    train.insert(0, "label", [10, 2, 10])
    if has_ids:
        train.insert(0, "id", ["001", "002", "003"])
        test.insert(0, "id", ["2", "1"])
    train.to_csv(tmp_path / "train.csv", index=False, encoding="utf-8-sig")
    test.to_csv(tmp_path / "test.csv", index=False)
    put(tmp_path, "sample_submission.csv", "ImageId,Label\n1,0\n2,0\n")
    data = read_layout(tmp_path, PETS)
    assert (data.layout, data.classes) == ("pixels", ("2", "10"))
    assert data.train.ids == (["001", "002", "003"] if has_ids else ["0", "1", "2"])
    assert data.test.ids == (["2", "1"] if has_ids else ["1", "2"])
    assert data.train.images.dtype == np.uint8
    np.testing.assert_array_equal(data.test.images, pixels[3:].reshape(2, 8, 8))


@pytest.mark.parametrize(
    "names",
    [
        ("train_images.npy", "train_labels.npy", "test_images.npy"),
        ("x_train.npy", "y_train.npy", "x_test.npy"),
        ("X_train.npy", "Y_train.npy", "X_test.npy"),
        ("train.npy", "train_labels.npy", "test.npy"),
    ],
)
def test_arrays(tmp_path, names):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 9, 8, 3), dtype=np.uint8)
    np.save(tmp_path / names[0], images[:4].transpose(0, 3, 1, 2))
    np.save(tmp_path / names[1], np.array([[0.0], [1.0], [0.0], [1.0]]))
    np.save(tmp_path / names[2], images[4:] / 255)
    put(tmp_path, "sample_submission.csv", "id,label\n7,0\n9,0\n")
    data = read_layout(tmp_path, replace(PETS, classes=("dog", "cat")))
    assert data.layout == "arrays"
    assert data.train.labels == ["dog", "cat", "dog", "cat"]
    assert data.test.ids == ["7", "9"]
    np.testing.assert_array_equal(data.train.images, images[:4])
    np.testing.assert_array_equal(data.test.images, images[4:])


def test_arrays_in_one_npz(tmp_path):
    images = np.zeros((3, 8, 8), np.uint8)
    np.savez(
        tmp_path / "mnist.npz",
        x_train=images,
        y_train=np.array(["a", "b", "a"]),
        x_test=images[:2],
        y_test=np.array([0, 1]),
        test_ids=np.array([b"p", b"q"]),
    )
    data = read_layout(tmp_path, PETS)
    assert (data.train.labels, data.test.ids) == (["a", "b", "a"], ["p", "q"])
    assert data.competition.data.train == "mnist.npz:x_train"
    assert read_layout(tmp_path, data.competition).train.labels == ["a", "b", "a"]


@pytest.mark.parametrize("style", ["-idx{}-ubyte", ".idx{}-ubyte", "-idx{}-ubyte.gz"])
def test_idx_files(tmp_path, style):
    images = np.arange(3 * 8 * 9, dtype=np.uint8).reshape(3, 8, 9)
    for name, array in (
        ("train-images", images),
        ("train-labels", np.array([3, 1, 3], np.uint8)),
        ("t10k-images", images[:2]),
        ("t10k-labels", np.array([3, 1], np.uint8)),
    ):
        data = idx_bytes(array)
        path = tmp_path / (name + style.format(array.ndim))
        path.write_bytes(gzip.compress(data) if style.endswith("gz") else data)
    put(tmp_path, "sample_submission.csv", "id,label\n1,0\n2,0\n")
    data = read_layout(tmp_path, PETS)
    assert (data.layout, data.classes, data.test.ids) == ("idx", ("1", "3"), ["1", "2"])
    np.testing.assert_array_equal(data.train.images, images)


def test_the_definition_decides_between_two_readings(tmp_path):
    put_images(tmp_path, ["train/cat/1.png", "train/dog/2.png", "test/3.png"])
    put(tmp_path, "train.csv", "id,label\n1,dog\n2,cat\n")
    with pytest.raises(
        ConfigError, match=r"as folders and as table.*`\[data\] layout` in data/pets"
    ):
        read_layout(tmp_path, PETS)
    data = read_layout(tmp_path, replace(PETS, data=DataSpec(layout="table")))
    assert data.train.labels == ["dog", "cat"]


@pytest.mark.parametrize(
    ("names", "said", "mirrored", "why"),
    [
        (("0", "7"), None, False, "never mirrored: every class is a single digit or letter"),
        (("a", "É"), None, False, "never mirrored: every class is a single digit or letter"),
        (("1", "10"), None, True, "mirrored: the classes are not all single digits or letters"),
        (("cat", "dog"), None, True, "key: [data] mirror"),
        (("0", "7"), True, True, "mirrored: [data] mirror = true"),
        (("cat", "dog"), False, False, "never mirrored: [data] mirror = false"),
    ],
)
def test_mirroring_is_decided_by_the_class_names(tmp_path, names, said, mirrored, why):
    put_images(tmp_path, [*(f"train/{name}/1.png" for name in names), "test/3.png"])
    definition = replace(PETS, data=DataSpec(mirror=said))
    data = read_layout(tmp_path, definition)
    assert data.competition.data.mirror is mirrored
    assert why in mirror_reason(definition, data.classes)


def test_classes_of_one_number_have_one_order_in_every_process():
    """Where "01" and "1" are two classes; sets are ordered by chance, anew in each process."""
    names = [f"{zeros}{number}" for number in range(12, 0, -1) for zeros in ("", "000", "0", "00")]
    part = RawPart([str(row) for row in range(len(names))], [], names)

    _, competition = checked_labels(part, PETS)

    assert competition.classes[:6] == ("0001", "001", "01", "1", "0002", "002")
    assert competition.classes[-1] == "12"


# --- what must be asked for ---------------------------------------------------------------------


# --- what is wrong ------------------------------------------------------------------------------


def test_a_sample_of_many_numbered_classes_is_no_table_of_pixels(tmp_path):
    names = [str(number) for number in range(64)]
    put_images(tmp_path, [*(f"train/{name}/{name}.png" for name in names), "test/a.png"])
    put(tmp_path, "sample_submission.csv", f"id,{','.join(names)}\na{',0.5' * 64}\n")
    assert read_layout(tmp_path, PETS).layout == "folders"
