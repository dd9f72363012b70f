"""Planted copies are found, and pictures of their own are left alone."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.audit.duplicates import find_duplicates
from pipeline.audit.findings import duplicate_findings
from pipeline.audit.near import is_flat, near_pairs
from pipeline.audit.views import View, grey_images, transformed
from pipeline.host.sources.bursts import in_bursts
from pipeline.host.sources.images import Labelled
from tests.audit.pictures import CHANGES, SIDE, cache_of, mirrored, photographs


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


def test_bursts_of_shifted_and_noisy_photographs_are_one_cluster_each():
    photos = np.stack([np.asarray(Image.fromarray(x).resize((32, 32))) for x in photographs()])
    unlabelled = Labelled(photos, np.zeros(len(photos), np.int64))
    taken = in_bursts(unlabelled, np.random.default_rng(0))

    found = clusters(taken.images[:-5], taken.images[-5:])

    bursts = [np.flatnonzero(taken.groups == photo).tolist() for photo in range(len(photos))]
    assert found == [rows for rows in bursts if len(rows) > 1]


@pytest.mark.parametrize("change", [np.copy, mirrored], ids=["plain", "mirrored"])
def test_copies_shifted_by_an_eighth_are_found_in_every_direction(change):
    pieces = photographs()[:12]
    eighth = SIDE // 8
    wider = np.pad(pieces, ((0, 0), (eighth, eighth), (eighth, eighth), (0, 0)), mode="reflect")
    places = [(down, right) for down in (0, 1, 2) for right in (0, 1, 2) if (down, right) != (1, 1)]
    copies = [
        change(photo[down * eighth :, right * eighth :][:SIDE, :SIDE])
        for down, right in places
        for photo in wider
    ]
    grey = grey_images(torch.from_numpy(np.stack([*pieces, *copies])))

    pairs = near_pairs(grey, 0.85, mirror=True)

    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    planted = {(n % 12, 12 + n) for n in range(len(copies))}
    assert planted - found == set()


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


@pytest.mark.parametrize(
    ("down", "right", "mirrored"), [(4, -2, False), (-3, 4, True), (0, 0, True)]
)
def test_overlapping_views_of_an_image_and_its_shifted_copy_are_the_same(down, right, mirrored):
    wider = grey_images(torch.from_numpy(photographs()[:1]))[0]
    wider = np.tile(wider, (2, 2))[8:56, 8:56]
    other = wider[8:40, 8:40]
    image = wider[8 + down : 40 + down, 8 + right : 40 + right]
    other = other[:, ::-1].copy() if mirrored else other

    views = View(down=down, right=right, mirrored=mirrored).overlap()

    one, same = (
        transformed(grey[None], view.rows(), view.columns())
        for grey, view in zip((image, other), views, strict=True)
    )
    np.testing.assert_allclose(one[:, 1:-1, 1:-1], same[:, 1:-1, 1:-1], atol=0.01)


def test_a_window_inside_an_image_overlaps_with_all_of_the_other():
    assert View(28, 28, 2, -2).overlap() == (View(), View(28, 28, 2, -2))
