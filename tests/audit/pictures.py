"""Real photographs in small pieces, and what is done to copies of them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from pipeline.data.cache import Part, TensorCache

SIDE = 64
Pixels = NDArray[np.uint8]


def photographs() -> Pixels:
    """Pieces of two photographs that share no pixel and show something, uint8 [N, 64, 64, 3]."""
    pieces = [
        photo[top : top + SIDE, left : left + SIDE]
        for photo in load_sample_images().images
        for top in range(0, 427 - SIDE, SIDE)
        for left in range(0, 640 - SIDE, SIDE)
    ]
    edges = [np.abs(np.diff(piece.mean(axis=2), axis=0)).mean() for piece in pieces]
    return np.stack([piece for piece, edge in zip(pieces, edges, strict=True) if edge > 4])


def brightened(image: Pixels) -> Pixels:
    return (image * 0.8 + 40).clip(0, 255).astype(np.uint8)


def recompressed(image: Pixels) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file))


def resized(image: Pixels) -> Pixels:
    small = Image.fromarray(image).resize((SIDE // 2, SIDE // 2), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def shifted(image: Pixels) -> Pixels:
    return np.pad(image, ((3, 0), (0, 4), (0, 0)), mode="edge")[:SIDE, 4:]


def cropped(image: Pixels) -> Pixels:
    box = (2, 3, SIDE - 4, SIDE - 3)
    return np.asarray(Image.fromarray(image).crop(box).resize((SIDE, SIDE)))


def cropped_and_stretched(image: Pixels) -> Pixels:
    box = (4, 0, SIDE - 4, SIDE - 1)
    return np.asarray(Image.fromarray(image).crop(box).resize((SIDE, SIDE)))


def mirrored(image: Pixels) -> Pixels:
    return image[:, ::-1].copy()


CHANGES: list[Callable[[Pixels], Pixels]] = [
    brightened,
    recompressed,
    resized,
    shifted,
    cropped,
    cropped_and_stretched,
]


def cache_of(train: Pixels, test: Pixels, labels: NDArray[np.int64] | None = None) -> TensorCache:
    """Both parts as a cache holds them; two classes, in turn unless given."""
    labels = np.arange(len(train)) % 2 if labels is None else labels
    return TensorCache(
        Part(torch.from_numpy(train), [f"a{n}" for n in range(len(train))], torch.tensor(labels)),
        Part(torch.from_numpy(test), [f"b{n}" for n in range(len(test))]),
        ("cat", "dog"),
    )
