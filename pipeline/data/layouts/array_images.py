"""Arrays of any shape and type that can only mean images, as pixels in rows of images."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import PixelArray
from pipeline.errors import DataError

_CHANNELS = (1, 3, 4)


def to_images(array: NDArray[Any], where: str) -> PixelArray:
    """An array as uint8 or uint16 [N, H, W] or [N, H, W, C].

    Rows of H * H numbers become square grey images and [N, C, H, W] is transposed. Numbers may
    be 0 to 255, or 0 to 1; 0 to 65535 in uint16.

    Raises:
        DataError: shape or values can be read in no way, or in two.
    """
    return _as_pixels(_as_rows_of_images(array, where), where)


def _as_rows_of_images(array: NDArray[Any], where: str) -> NDArray[Any]:
    if array.ndim == 2:
        side = math.isqrt(array.shape[1])
        if side * side != array.shape[1]:
            raise DataError(
                f"{where}: {array.shape[1]} numbers per image make no square; save the array as "
                "[N, H, W] or [N, H, W, C]"
            )
        return array.reshape(-1, side, side)
    if array.ndim == 3:
        return array
    if array.ndim == 4 and array.shape[3] in _CHANNELS:
        return array
    if array.ndim == 4 and array.shape[1] in _CHANNELS:
        return array.transpose(0, 2, 3, 1)
    raise DataError(
        f"{where}: an array of shape {array.shape} is not read as images; save it as [N, H, W] "
        "or [N, H, W, C] with 1, 3 or 4 channels"
    )


def _as_pixels(array: NDArray[Any], where: str) -> PixelArray:
    if array.dtype == np.uint8 or (array.dtype == np.uint16 and (array > 255).any()):
        return cast(PixelArray, array)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise DataError(f"{where}: values of type {array.dtype} are no pixels; save it as uint8")
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if low < 0 or high > 255 or math.isnan(low):
        raise DataError(
            f"{where}: values from {low:g} to {high:g}; pixels are 0 to 255 or 0 to 1: "
            "save it as uint8"
        )
    is_fraction = np.issubdtype(array.dtype, np.floating) and high <= 1
    pixels: NDArray[np.uint8] = np.rint(array * 255 if is_fraction else array).astype(np.uint8)
    return pixels
