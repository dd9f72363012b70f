"""Ids are joined in one way for all, and never to an image that they may not mean."""

import pytest

from pipeline.data.ids import match_ids, short_ids


@pytest.mark.parametrize(
    ("wanted", "available", "found"),
    [
        (["K\u00e4se", "b"], ["b.jpg", "Ka\u0308se.jpg"], [1, 0]),  # macOS writes two characters
        (["b", "a"], ["a", "b"], [1, 0]),
        (["2.png", "1.png"], ["x/1.png", "y/2.png"], [1, 0]),
        (["x/2", "x/1"], ["x/1.png", "x/2.JPG"], [1, 0]),
        (["2", "1"], ["x/1.png", "y/2.png"], [1, 0]),
        (["1.5", "1"], ["1.png", "1.5.png"], [1, 0]),
        (["1", "2", "3"], ["x/1.png", "x/2.png"], [0, 1, None]),
        (["1", "2"], ["x/1.png", "y/1.png", "x/2.png"], [None, 2]),  # 1 may be either
        (["1.jpg", "1.png"], ["1"], [None, None]),  # which would both be one image
    ],
)
def test_ids_mean_the_images_that_they_name(wanted, available, found):
    assert match_ids(wanted, available) == found


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a/1.png", "b/2.png"], ["1", "2"]),
        (["a/1.png", "b/1.png"], ["a/1", "b/1"]),
        (["a/1.png", "a/1.jpg"], ["a/1.png", "a/1.jpg"]),
    ],
)
def test_ids_are_as_short_as_they_can_be(names, ids):
    assert short_ids(names) == ids
