"""Fold maps: stratified, grouped, joined by id."""

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.training.folds import assign_folds, join_duplicates, read_folds, write_folds


def test_every_fold_has_the_same_share_of_each_class():
    labels = np.repeat([0, 1, 2], [100, 50, 10])

    fold = assign_folds(labels, None, 5, seed=0)

    for number in range(5):
        assert np.bincount(labels[fold == number]).tolist() == [20, 10, 2]


def test_a_group_never_spans_two_folds():
    labels = np.tile([0, 1], 60)
    groups = [f"patient{i // 4}" for i in range(120)]

    fold = assign_folds(labels, groups, 3, seed=0)

    for group in set(groups):
        assert len({fold[i] for i, g in enumerate(groups) if g == group}) == 1


def test_same_seed_same_folds_other_seed_other_folds():
    labels = np.tile([0, 1], 50)

    assert np.array_equal(assign_folds(labels, None, 5, 1), assign_folds(labels, None, 5, 1))
    assert not np.array_equal(assign_folds(labels, None, 5, 1), assign_folds(labels, None, 5, 2))
    several = labels[:, None] == [0, 1]
    assert not np.array_equal(assign_folds(several, None, 5, 1), assign_folds(several, None, 5, 2))


def test_a_class_may_have_an_image_per_fold_or_none_at_all():
    labels = np.repeat([0, 2], [20, 5])

    fold = assign_folds(labels, None, 5, seed=0)

    assert np.bincount(fold[labels == 2]).tolist() == [1] * 5
    with pytest.raises(ConfigError, match="1 of 3 classes have fewer images, least class number 2"):
        assign_folds(labels, None, 6, seed=0)


def test_every_fold_has_the_same_share_of_each_of_several_labels():
    labels = np.random.default_rng(0).random((2000, 6)) < [0.5, 0.3, 0.1, 0.03, 0.01, 0.2]

    fold = assign_folds(labels, None, 5, seed=0)

    for number in range(5):
        held = labels[fold == number]
        assert abs(len(held) - 400) <= 10
        assert abs(held.sum(axis=0) - labels.sum(axis=0) / 5).max() <= 2


def test_groups_of_images_with_several_labels_stay_whole():
    random = np.random.default_rng(0)
    groups = [f"burst{number}" for number in random.integers(0, 300, 900)]
    labels = random.random((900, 4)) < 0.3

    fold = assign_folds(labels, groups, 3, seed=0)

    for group in set(groups):
        assert len({fold[i] for i, g in enumerate(groups) if g == group}) == 1
    assert max(np.bincount(fold)) - min(np.bincount(fold)) < 30
    assert np.array_equal(fold, assign_folds(labels, groups, 3, seed=0))


@pytest.mark.parametrize(
    ("labels", "groups", "folds", "message"),
    [
        ([0, 1] * 9, None, 1, "FOLDS=1: out-of-fold scores need at least 2"),
        (
            [0] * 9 + [1] * 3 + [2] * 4,
            None,
            5,
            "FOLDS=5: 2 of 3 classes have fewer images, least class 'dog' with 3; choose fewer fol",
        ),
        ([0, 1] * 9, ["a", "b", "c"] * 6, 5, "there are only 3 groups; choose fewer folds, or"),
        (
            [0] * 6 + [1] * 6,
            ["a"] * 6 + ["b", "c"] * 3,
            3,
            "without fold . no image of class 'cat' is left to train on; choose another FOLDS",
        ),
    ],
)
def test_folds_that_do_not_fit_are_refused(labels, groups, folds, message):
    with pytest.raises(ConfigError, match=message):
        assign_folds(np.array(labels), groups, folds, seed=0, classes=["cat", "dog", "cow"])


def test_a_map_is_joined_by_id_not_by_position(tmp_path):
    write_folds(tmp_path / "folds.csv", ["001", "NA", "x"], np.array([2, 0, 1]))

    assert read_folds(tmp_path / "folds.csv", ["x", "001", "NA"]).tolist() == [1, 2, 0]


def test_a_map_of_other_images_is_refused(tmp_path):
    write_folds(tmp_path / "folds.csv", ["a", "b"], np.array([0, 1]))

    with pytest.raises(DataError, match="1 of 2 images are in no fold, first 'c'"):
        read_folds(tmp_path / "folds.csv", ["a", "c"])
    with pytest.raises(DataError, match="delete the file and rerun"):
        read_folds(tmp_path / "folds.csv", ["a"])


def test_copies_become_groups_and_join_the_groups_that_there_are(tmp_path):
    path = tmp_path / "duplicates.csv"
    path.write_text("id,group\nb,copies0\nNA,copies0\n001,copies1\nx,copies1\n")
    ids = ["a", "b", "NA", "001", "x", "y"]

    alone = join_duplicates(path, ids, None)
    joined = join_duplicates(path, ids, ["p", "q", "r", "r", "s", "t"])

    assert alone == ["a", "b", "b", "001", "001", "y"]
    assert joined == ["a", "b", "b", "b", "b", "y"]  # r links both pairs of copies
    last = join_duplicates(path, ids, ["p", "q", "r", "s", "r", "t"])
    assert last == joined  # whichever of a pair it is


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,fold\na,0\n", r"duplicates.csv is damaged \('group'\); delete it, or make audit"),
        ("id,group\na,0\na,1\n", "is damaged"),
        ("", "is damaged"),
        ("id,group\na,0\nz,0\n", "1 of 2 images are no training images, first 'z'; delete it"),
    ],
)
def test_a_list_of_copies_that_does_not_fit_is_refused(tmp_path, content, message):
    path = tmp_path / "duplicates.csv"
    path.write_text(content)

    with pytest.raises(DataError, match=message):
        join_duplicates(path, ["a", "b"], None)
