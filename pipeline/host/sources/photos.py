"""Pieces of photographs that come with scikit-image and scikit-learn: no network needed."""

from __future__ import annotations

import io
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pipeline.host.sources.images import Collection, Labelled

_SEED = 20260114
# In the order of the class names.
_PHOTOS = (
    ("skimage.data", "astronaut.png"),
    ("skimage.data", "brick.png"),
    ("skimage.data", "chelsea.png"),
    ("sklearn.datasets.images", "china.jpg"),
    ("skimage.data", "coffee.png"),
    ("sklearn.datasets.images", "flower.jpg"),
    ("skimage.data", "grass.png"),
    ("skimage.data", "gravel.png"),
    ("skimage.data", "hubble_deep_field.jpg"),
    ("skimage.data", "moon.png"),
    ("skimage.data", "motorcycle_left.png"),
    ("skimage.data", "rocket.jpg"),
)
_FRAME = (800, 500)  # width and height, in pixels, of every photo
_SEAM = 480  # the column that parts what is learnt from what is tested
_SMALLEST, _LARGEST = 90, 300
_TRAIN_PIECES, _TEST_PIECES = 125, 50  # of each photo
_ORIENTATION = 0x0112
# How a camera held sideways stores its pixels, and the tag that says so.
_TURNS = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
_TURNED_SHARE = 0.5


def load(cache: Path) -> Collection:
    """1,500 training and 600 test pieces as JPEG files; `cache` stays unused.

    Training pieces are from the left 60 % of each photo, test pieces from the rest. All are grey:
    their colours would tell the photo.
    """
    rng = np.random.default_rng(_SEED)
    photos = [_framed(*where) for where in _PHOTOS]
    width, height = _FRAME
    return Collection(
        _pieces([photo.crop((0, 0, _SEAM, height)) for photo in photos], _TRAIN_PIECES, rng),
        _pieces([photo.crop((_SEAM, 0, width, height)) for photo in photos], _TEST_PIECES, rng),
    )


def _framed(package: str, name: str) -> Image.Image:
    content = (resources.files(package) / name).read_bytes()
    photo = Image.open(io.BytesIO(content)).convert("L")
    return ImageOps.fit(photo, _FRAME, Image.Resampling.BICUBIC)


def _pieces(areas: list[Image.Image], count: int, rng: np.random.Generator) -> Labelled:
    files = [_file(_piece(area, rng), rng) for area in areas for _ in range(count)]
    labels = np.repeat(np.arange(len(areas), dtype=np.uint8), count)
    return Labelled(np.array(files, dtype=object), labels)


def _piece(area: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random rectangle; neither its size nor its place depends on the photo."""
    width, height = (int(side) for side in rng.integers(_SMALLEST, _LARGEST + 1, size=2))
    left = int(rng.integers(area.width - width + 1))
    top = int(rng.integers(area.height - height + 1))
    return area.crop((left, top, left + width, top + height))


def _file(piece: Image.Image, rng: np.random.Generator) -> bytes:
    """A JPEG; of the upright ones, half are stored sideways with a tag that says so."""
    quality = int(rng.integers(80, 96))
    tags = Image.Exif()
    if piece.height > piece.width and rng.random() < _TURNED_SHARE:
        tags[_ORIENTATION] = int(rng.choice(list(_TURNS)))
        piece = piece.transpose(_TURNS[tags[_ORIENTATION]])
    buffer = io.BytesIO()
    piece.save(buffer, format="jpeg", quality=quality, exif=tags)
    return buffer.getvalue()
