"""What the raw files leave undecided is asked for by its key; what is broken is named."""

import gzip
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.competition import Competition, DataSpec, SubmissionSpec
from pipeline.data.layouts import read_layout
from pipeline.data.submission import read_form
from pipeline.errors import ConfigError, DataError
from tests.data.raw_files import idx_bytes, put, put_images

PETS = Competition(slug="pets")


def asked(raw: Path, competition: Competition = PETS) -> str:
    with pytest.raises(ConfigError) as caught:
        read_layout(raw, competition)
    assert "data/pets/competition.toml" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_undecided_label_column_is_asked_for(table):
    put(table, "train.csv", "id,age,breed\n1e3,1,x\n0001,2,y\n0002,1,x\n")
    assert "`[data] label_column`" in asked(table)
    assert "candidates: age, breed" in asked(table)
    spec = DataSpec(label_column="breed")
    assert read_layout(table, replace(PETS, data=spec)).classes == ("x", "y")
    assert "no column 'bread'" in asked(table, replace(PETS, data=DataSpec(label_column="bread")))


def test_two_label_tables_are_asked_about(table):
    put(table, "more.csv", (table / "train.csv").read_text())
    assert "`[data] train_labels`" in asked(table)
    assert "more.csv, train.csv" in asked(table)
    named = replace(PETS, data=DataSpec(train_labels="more.csv"))
    assert read_layout(table, named).competition.data.train_labels == "more.csv"
    assert "does not exist" in asked(table, replace(PETS, data=DataSpec(train_labels="no.csv")))


def test_two_test_folders_and_two_samples_are_asked_about(table):
    put_images(table, ["test_stg2/0007.png"])
    assert "`[data] test`" in asked(table)
    assert "test, test_stg2" in asked(table)
    put(table, "sample_submission_2.csv", "id,label\n0007,cat\n")
    assert "`[submission] sample`" in asked(table)


def test_images_outside_train_and_test_are_asked_about(table):
    put_images(table, ["valid/1.png"])
    assert "1 images lie outside train" in asked(table)
    kept_out = replace(PETS, data=DataSpec(train="train"))
    assert len(read_layout(table, kept_out).train.ids) == 3


def test_an_unknown_layout_is_asked_about(tmp_path):
    put(tmp_path, "readme.txt", "hello")
    assert "no known layout" in asked(tmp_path)


def test_arrays_without_ids_need_a_sample(tmp_path):
    images = np.zeros((2, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=[0, 1], x_test=images)
    assert "put the competition's sample_submission.csv into data/pets/raw" in asked(tmp_path)
    assert "`[submission] sample`" in asked(tmp_path)
    put(tmp_path, "example.csv", "id,label\n5,0\n7,1\n")
    named = replace(PETS, submission=SubmissionSpec(sample="example.csv"))
    data = read_layout(tmp_path, named)
    assert read_form(tmp_path, data.competition, data.classes, data.test.ids).ids == ["5", "7"]
    (tmp_path / "example.csv").rename(tmp_path / "sample_submission.csv")
    assert read_layout(tmp_path, PETS).test.ids == ["5", "7"]
    put(tmp_path, "sample_submission.csv", "id,label\n5,0\n2,0\n")
    assert "numbers out of order" in asked(tmp_path)
    put(tmp_path, "sample_submission.csv", "id,label\n5,0\n")
    assert "has 1 rows and a.npz:x_test 2 images" in refused(tmp_path)


def test_arrays_of_unknown_names_are_asked_about(tmp_path):
    images = np.zeros((2, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, answers=[0, 1], x_test=images, test_ids=[1, 2])
    assert "`[data] train_labels`" in asked(tmp_path)
    named = replace(PETS, data=DataSpec(train_labels="a.npz:answers"))
    assert read_layout(tmp_path, named).train.labels == ["0", "1"]


def test_groups_need_a_table(tmp_path):
    put_images(tmp_path, ["train/cat/1.png", "train/dog/1.png", "test/3.png"])
    with pytest.raises(ConfigError, match="group_column"):
        read_layout(tmp_path, replace(PETS, data=DataSpec(group_column="patient")))


def refused(raw: Path, competition: Competition = PETS) -> str:
    with pytest.raises(DataError) as caught:
        read_layout(raw, competition)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_labels_of_missing_images(table):
    put(table, "train.csv", "id,label\n1e3,cat\n0001,dog\n0002,cat\n0003,cat\n0004,dog\n")
    assert "train.csv: 2 of 5 labels name a missing image, first '0003'" in refused(table)


def test_images_without_a_label(table):
    put_images(table, ["train/0009.png"])
    assert "1 images have no label" in refused(table)
    assert "first 'train/0009.png'" in refused(table)


def test_repeated_ids_and_empty_labels(table):
    put(table, "train.csv", "id,label\n1e3,cat\n0001,dog\n0002,cat\n0001,cat\n")
    assert "1 ids repeat an earlier one, first '0001'" in refused(table)
    put(table, "train.csv", "id,label\n1e3,cat\n0001,\n0002,dog\n")
    told = refused(table)
    assert "1 training images have an empty label, first id '0001'" in told
    assert "set `[data] label_separator` where images may have several labels or none" in told
    put(table, "train.csv", "id,label\n1e3,cat\n0001,dog\n0002,cat\n")
    put(table, "sample_submission.csv", "id,label\n0010,cat\n0010,cat\n")
    assert "repeat an earlier one, first '0010'" in refused(
        table, replace(PETS, submission=SubmissionSpec(id="id"))
    )


def test_one_class(table):
    put(table, "train.csv", "id,label\n1e3,cat\n0001,cat\n0002,cat\n")
    assert "pets has one class, 'cat', in 3 training images" in refused(table)


@pytest.mark.parametrize("names", [["train/cat/1.png", "train/cat/x.png"], ["train/cat.1.png"]])
def test_one_class_without_a_table(tmp_path, names):
    put_images(tmp_path, [*names, "test/3.png"])
    assert f"one class: all {len(names)} training images are 'cat'" in refused(tmp_path)


def test_classes_that_differ_from_the_definition(table):
    named = replace(PETS, classes=("cat", "bird"))
    message = refused(table, named)
    assert "1 training labels are none of the 2 classes" in message
    assert "first 'dog' of id '0001'" in message
    more = replace(PETS, classes=("bird", "cat", "dog"))
    assert "1 of 3 classes have no training image, first 'bird'" in refused(table, more)


def test_test_images_that_do_not_pair_off_with_the_sample(table):
    put(table, "sample_submission.csv", "id,label\n0010,cat\n0007,cat\n0008,cat\n")
    assert "1 of 3 ids have no test image" in refused(table)
    assert "first '0008'" in refused(table)
    put(table, "sample_submission.csv", "id,label\n0010,cat\n")
    assert "1 test images have no row in sample_submission.csv, first 'test/0007.png'" in refused(
        table
    )


def test_missing_test_images_are_not_taken_from_the_training_folder(table):
    for path in (table / "test").iterdir():
        path.unlink()
    put(table, "sample_submission.csv", "id,label\n0001,cat\n0002,cat\n")
    assert "pets has no test images" in refused(table)


def test_an_empty_part(tmp_path):
    header = ",".join(f"pixel{n}" for n in range(64))
    row = ",".join(["0"] * 64)
    put(tmp_path, "train.csv", f"label,{header}\n")
    put(tmp_path, "test.csv", f"{header}\n{row}\n")
    put(tmp_path, "sample_submission.csv", "ImageId,Label\n1,0\n")
    assert "pets has no training images" in refused(tmp_path)


def test_loose_images_beside_class_folders(tmp_path):
    put_images(tmp_path, ["train/cat/1.png", "train/dog/2.png", "train/3.png", "test/4.png"])
    folders = replace(PETS, data=DataSpec(layout="folders"))
    assert "1 training images lie in no class folder, first 'train/3.png'" in refused(
        tmp_path, folders
    )


def test_names_without_a_label(tmp_path):
    put_images(tmp_path, [f"train/{c}.{n}.png" for c in ("cat", "dog") for n in range(3)])
    put_images(tmp_path, ["train/oops.png", "test/1.png"])
    assert "1 of 7 training images have no label in their name" in refused(tmp_path)
    assert "first 'train/oops.png'" in refused(tmp_path)


def test_file_names_that_are_not_utf8(tmp_path):
    put_images(tmp_path, ["train/cat/1.png", "train/dog/1.png", "test/3.png"])
    for name in (b"c\xe4t.png", b"b\xe4r.png"):
        (tmp_path / "test" / os.fsdecode(name)).write_bytes(b"")
    message = refused(tmp_path)
    assert r"2 of 5 file names are not in UTF-8, first 'test/b\udce4r.png'; rename" in message
    message.encode()


def test_an_empty_folder_and_packed_archives(tmp_path):
    assert "is empty; download pets" in refused(tmp_path / "nowhere")
    put(tmp_path, "train.7z", "7z")
    assert "1 archives that are not unpacked, first 'train.7z'" in refused(tmp_path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("id,label\n1,cat,extra\n", "1 rows do not have the header's 2 fields, first in line 2"),
        ("id,id\n1,2\n", "column 'id' appears twice"),
        ("", "is empty"),
        ('id,label\n"1,cat\n', "is not a CSV in UTF-8"),
    ],
)
def test_broken_tables(table, text, match):
    put(table, "train.csv", text)
    assert match in refused(table)


def test_broken_pixel_tables(tmp_path):
    header = ",".join(["label", *(f"pixel{n}" for n in range(81))])
    row = ",".join(["0"] * 81)
    put(tmp_path, "test.csv", f"{header.removeprefix('label,')}\n{row}\n")
    put(tmp_path, "sample_submission.csv", "ImageId,Label\n1,0\n")
    for bad, match in (
        (f"1,{row[:-1]}x", "a pixel is no number"),
        (f"1,{row[:-2]}", "a row is broken"),
        (f"1,{row[:-1]}300", "values from 0 to 300"),
        (f"1,{row},7", "a pixel is no number, or a row is broken"),
    ):
        for lines in (f"0,{row}\n{bad}", f"{bad}\n{bad}"):
            put(tmp_path, "train.csv", f"{header}\n{lines}\n")
            assert match in refused(tmp_path), match
    put(tmp_path, "train.csv", f"{header}\n0,{row}\n1,{row}\n")
    put(tmp_path, "test.csv", f"{header.removeprefix('label,pixel0,')}\n{row[2:]}\n")
    assert "lacks 1 of the 81 pixel columns of the training table, first 'pixel0'" in refused(
        tmp_path
    )


def test_arrays_that_hold_no_images_or_pickles(tmp_path):
    images = np.zeros((2, 8, 8), np.uint8)
    good = {"x_train": images, "y_train": [0, 1], "x_test": images, "test_ids": [1, 2]}
    for change, match in (
        ({"x_train": images[:1]}, "has 1 images and"),
        ({"x_train": np.zeros((2, 30))}, "30 numbers per image make no square"),
        ({"x_train": np.full((2, 8, 8), -1)}, "values from -1 to -1"),
        ({"x_train": np.full((2, 8, 8), np.nan)}, "values from nan"),
        ({"x_train": np.zeros((2, 5, 8, 7))}, "is not read as images"),
        ({"y_train": [0.5, 1]}, "labels are fractions"),
        ({"y_train": np.eye(2)}, "labels of shape (2, 2)"),
        ({"y_train": np.array([{}, 1], dtype=object)}, "without pickle"),
        ({"test_ids": [1, 2, 3]}, "2 images and 3 ids"),
    ):
        np.savez(tmp_path / "a.npz", **(good | change))
        assert match in refused(tmp_path), match
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    assert "a.npz cannot be read" in refused(tmp_path)


def test_broken_idx_files(tmp_path):
    put(tmp_path, "sample_submission.csv", "id,label\n1,0\n2,0\n")
    data = idx_bytes(np.zeros((2, 8, 8), np.uint8))
    labels = idx_bytes(np.array([0, 1], np.uint8))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(data)
    for broken, match in (
        (data[:-1], "holds 127 values and its header says 128"),
        (data[:6], "damaged or truncated"),
        (b"\x01" + data[1:], "is no IDX file"),
    ):
        (tmp_path / "train-images-idx3-ubyte").write_bytes(broken)
        assert match in refused(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(data)[:-10])
    assert "damaged or truncated" in refused(tmp_path)


def test_a_folder_that_is_a_link_is_not_left_out_silently(tmp_path):
    put_images(tmp_path, ["raw/train/cat/1.png", "raw/train/dog/1.png", "raw/test/1.png"])
    put_images(tmp_path, ["bird/1.png"])
    (tmp_path / "raw/train/bird").symlink_to(tmp_path / "bird")
    with pytest.raises(DataError, match=r"1 folders are links, .* first 'train/bird'; put the fol"):
        read_layout(tmp_path / "raw", PETS)


def test_a_misspelt_id_column_is_asked_about(table):
    message = asked(table, replace(PETS, data=DataSpec(id_column="di")))
    assert "no column 'di'; set `[data] id_column`" in message
    assert "candidates: id, label" in message


def test_images_without_a_group(table):
    put(table, "train.csv", "id,label,patient\n1e3,cat,a\n0001,dog,\n0002,cat, \n")
    grouped = replace(PETS, data=DataSpec(group_column="patient"))
    with pytest.raises(DataError, match="2 of 3 training images have no group, first id '0001'; f"):
        read_layout(table, grouped)


def test_labels_that_differ_in_spaces_alone(table):
    put(table, "train.csv", "id,label\n1e3,cat\n0001,dog\n0002,cat \n")
    with pytest.raises(DataError, match=r"1 of 3 classes differ .* first 'cat ' from 'cat'; write"):
        read_layout(table, PETS)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_tables_without_commas(table, separator):
    for name in ("train.csv", "sample_submission.csv"):
        put(table, name, (table / name).read_text().replace(",", separator))
    with pytest.raises(
        DataError, match=r"sample_submission\.csv has no commas .*; save it with com"
    ):
        read_layout(table, PETS)
    (table / "sample_submission.csv").unlink()
    with pytest.raises(
        DataError, match=r"1 of 1 tables have no commas .* first 'train\.csv'; save"
    ):
        read_layout(table, PETS)
