"""Small grey images, and how they look shifted, zoomed or mirrored: all by matrix products.

Shifting, zooming, mirroring, blurring and the discrete cosine transform are separable and linear,
so each is one matrix for the rows and one for the columns of an image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

SIDE = 32
CHUNK = 4096
_VALUES = 2**24  # of the images that are held as numbers at once: 128 MiB of doubles
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
_FINE, _COARSE = 0.7, 2.0  # pixels: what is between these two blurs survives resizing and JPEG

Images: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class View:
    """A window of an image, enlarged to the whole: its size and offset in pixels of 32."""

    height: float = SIDE
    width: float = SIDE
    down: float = 0
    right: float = 0
    mirrored: bool = False

    def zoomed(self, vertical: float, horizontal: float) -> View:
        """The window around the same centre, its height and width times these factors."""
        return replace(self, height=self.height * vertical, width=self.width * horizontal)

    def overlap(self) -> tuple[View, View]:
        """Views of an image and of another that show the same where this view of the other does.

        Without the strips that either has beyond the other's border.
        """
        (top, down), (height, lower) = _overlap(self.height, self.down)
        (left, right), (width, farther) = _overlap(self.width, self.right)
        return View(top, left, down, right), View(height, width, lower, farther, self.mirrored)

    def rows(self) -> Floats:
        """The matrix [32, 32] that resamples an image's rows."""
        return _resampling(self.height, self.down)

    def columns(self) -> Floats:
        """The matrix [32, 32] that resamples an image's columns."""
        matrix = _resampling(self.width, self.right)
        return matrix[:, ::-1] if self.mirrored else matrix


def grey_images(images: Tensor) -> Images:
    """Images uint8 [N, H, W, C] as small grey ones, uint8 [N, 32, 32]."""
    grey = np.empty((len(images), SIDE, SIDE), dtype=np.uint8)
    for rows in chunks(len(images), at_once(images)):
        pixels = images[rows].float()
        if pixels.shape[-1] == 3:
            pixels = pixels @ torch.tensor(_LUMINANCE)[:, None]
        small = F.interpolate(
            pixels[..., 0][:, None], size=(SIDE, SIDE), mode="bilinear", antialias=True
        )
        grey[rows] = small[:, 0].round().clamp(0, 255).numpy()
    return grey


def at_once(images: Tensor) -> int:
    """How many of these images [N, H, W, C] are held as numbers at once: the larger, the fewer."""
    return max(1, min(CHUNK, _VALUES // images.shape[1:].numel()))


def chunks(count: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices that cover `count` rows."""
    return (slice(start, start + size) for start in range(0, count, size))


def transformed(grey: Images, rows: Floats, columns: Floats) -> Floats:
    """`rows` @ image @ `columns`.T of every image [N, 32, 32], a chunk at a time."""
    found = np.empty((len(grey), len(rows), len(columns)), dtype=np.float32)
    left, right = torch.from_numpy(rows.copy()), torch.from_numpy(columns.copy())
    for part in chunks(len(grey)):
        found[part] = (left @ (torch.from_numpy(grey[part]).float() @ right.T)).numpy()
    return found


def details(grey: Images, view: View, step: int = 1) -> Floats:
    """What a view shows between two scales, float32 [N, 32 / step, 32 / step].

    The difference of two Gaussian blurs: free of brightness, of the finest grain (which JPEG and
    resizing change) and of smooth shading (which many photographs share).
    """
    fine, coarse = _blur(_FINE)[::step], _blur(_COARSE)[::step]
    rows, columns = view.rows(), view.columns()
    return transformed(grey, fine @ rows, fine @ columns) - transformed(
        grey, coarse @ rows, coarse @ columns
    )


def _overlap(side: float, offset: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Along one axis, what a window and the image share: as sides and offsets in units of each."""
    beyond = max(0.0, abs(offset) - (SIDE - side) / 2)
    moved = math.copysign(beyond / 2, offset)
    zoom = SIDE / side
    return (SIDE - beyond * zoom, -moved * zoom), (side - beyond, offset - moved)


def _resampling(side: float, offset: float) -> Floats:
    """Linear interpolation at 32 places across a window; beyond the border its last pixel."""
    centre = (SIDE - 1) / 2
    places = centre + offset + (np.arange(SIDE) - centre) * side / SIDE
    places = places.clip(0, SIDE - 1)
    distance = np.abs(places[:, None] - np.arange(SIDE)[None])
    matrix: Floats = (1 - distance).clip(0, None).astype(np.float32)
    return matrix


def _blur(sigma: float) -> Floats:
    matrix: Floats = gaussian_filter1d(np.eye(SIDE), sigma, axis=0, mode="nearest").astype(
        np.float32
    )
    return matrix
