"""Planted copies are found, and pictures of their own are left alone."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.audit.duplicates import find_duplicates
from pipeline.audit.findings import duplicate_findings
from pipeline.audit.near import is_flat, near_pairs
from pipeline.audit.views import View, grey_images, transformed
from tests.audit.pictures import CHANGES, cache_of, mirrored, photographs


def clusters(train, test, *, mirror=True):
    return [c.rows for c in find_duplicates(cache_of(train, test), mirror=mirror).clusters]


def test_pictures_of_their_own_have_no_copies():
    pieces = photographs()

    assert clusters(pieces[:-10], pieces[-10:]) == []


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_copy_is_found_and_nothing_else(change):
    pieces = photographs()
    copies = np.stack([change(piece) for piece in pieces])

    found = clusters(pieces, copies)

    planted = [[row, row + len(pieces)] for row in range(len(pieces))]
    assert [pair for pair in planted if pair not in found] == []
    assert [pair for pair in found if pair not in planted] == []


def test_mirrored_copies_count_only_where_a_mirror_keeps_the_label():
    pieces = photographs()[:20]
    copies = np.stack([mirrored(piece) for piece in pieces])

    (first, *rest) = find_duplicates(cache_of(pieces, copies), mirror=True).clusters

    assert first.mirrored
    assert not first.exact
    assert len(rest) == 19
    assert clusters(pieces, copies, mirror=False) == []


def test_exact_copies_are_grouped_even_of_images_that_show_nothing():
    pieces = photographs()[:6]
    black = np.zeros_like(pieces[:1])
    train = np.concatenate([pieces, black, pieces[:1], black])

    found = find_duplicates(cache_of(train, np.concatenate([black, pieces[:1]])), mirror=True)

    assert [c.rows for c in found.clusters] == [[0, 7, 10], [6, 8, 9]]
    assert all(c.exact and c.similarity == 1 for c in found.clusters)
    assert clusters(np.zeros_like(pieces), pieces[:1]) == [list(range(6))]
    assert is_flat(grey_images(torch.from_numpy(black))).all()


def test_handwritten_digits_are_not_taken_for_copies_of_each_other():
    digits = (load_digits().images[..., None] * 15).astype(np.uint8)
    train = np.concatenate([digits[:700], digits[:5]])

    found = find_duplicates(cache_of(train, digits[700:1000]), mirror=False)

    assert [c.rows for c in found.clusters if c.exact] == [[row, 700 + row] for row in range(5)]
    assert found.required_similarity > 0.95
    assert sum(len(c.rows) for c in found.clusters) - 10 < 20


def test_counts_by_part_fold_and_label():
    pieces = photographs()[:8]
    train = np.concatenate([pieces, pieces[:2]])
    data = cache_of(train, pieces[1:4], np.array([0, 0, 1, 1, 0, 0, 1, 1, 0, 1]))
    folds = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 1])

    found = duplicate_findings(data, find_duplicates(data, mirror=True), folds)

    assert found["count"] == found["exact"] == 4
    assert found["largest"] == 3
    assert found["train_images_with_copy_in_train"] == 4
    assert found["train_images_with_copy_in_another_fold"] == 2  # a1 and its copy a9
    assert found["test_images_with_copy_in_train"] == 3
    assert found["test_images_with_copy_in_test"] == 0
    assert found["with_conflicting_labels"] == 1
    (conflict,) = [c for c in found["clusters"] if c["conflicting_labels"]]
    assert [(i["part"], i["id"], i["label"], i["fold"]) for i in conflict["images"]] == [
        ("train", "a1", "cat", 0),
        ("train", "a9", "dog", 1),
        ("test", "b0", None, None),
    ]


def test_several_labels_conflict_where_any_of_them_differs():
    pieces = photographs()[:3]
    train = np.concatenate([pieces, pieces[:2]])
    cells = np.array([[1, 0], [1, 1], [0, 0], [1, 0], [1, 0]], dtype=bool)
    data = cache_of(train, pieces[2:], cells)

    found = duplicate_findings(data, find_duplicates(data, mirror=True), None)

    assert [c["conflicting_labels"] for c in found["clusters"]] == [False, True, False]
    assert found["clusters"][1]["images"][0]["label"] == "cat, dog"
    assert found["train_images_with_copy_in_another_fold"] is None


def test_the_search_is_the_same_twice():
    grey = grey_images(torch.from_numpy(np.concatenate([photographs(), photographs()[:9]])))

    one, other = (near_pairs(grey, 0.85, mirror=True) for _ in range(2))

    assert one.first.tolist() == other.first.tolist() == list(range(9))
    assert one.similarity.tobytes() == other.similarity.tobytes()


def test_a_view_is_what_its_name_says():
    grey = grey_images(torch.from_numpy(photographs()[:2]))
    view = View(down=2, right=-2, mirrored=True)

    seen = transformed(grey, view.rows(), view.columns())

    np.testing.assert_array_equal(seen[:, :30, 2:], grey[:, 2:, ::-1][:, :, :30])
