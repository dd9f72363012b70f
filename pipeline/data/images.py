"""Image files and arrays of pixels decoded to uint8 images of one size."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageStat

from pipeline.errors import DataError

PixelArray: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

MAX_PIXELS = 100_000_000
KEPT_SIDE = 128
DEFAULT_SIDE = 64

# Only formats that Pillow decodes itself: others would start external programs.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000")
# These have no more than 16 bits; Pillow opens them as 32, and scales 10 or 12 up to 16.
_16_BITS_IN_32 = {"PNG", "PPM"}
_ORIENTATION = 0x0112
_SIDEWAYS = {5, 6, 7, 8}


@dataclass(frozen=True, slots=True)
class Probe:
    """What a file's header says, in pixels, after turning by its EXIF orientation."""

    height: int
    width: int
    is_grey: bool


@dataclass(frozen=True, slots=True)
class ImageForm:
    """The one shape that all images of a competition get, with the reason for it.

    `resize` is how those of another shape get it: crop resizes the short side and cuts the centre
    out, pad resizes the long side and fills the rest, stretch resizes both.
    """

    height: int
    width: int
    channels: int
    reason: str
    resize: str = "crop"


def choose_form(probes: Collection[Probe], size: int | None, resize: str = "crop") -> ImageForm:
    """The shape for images of these sizes; `size` and `resize` are the definition's.

    A set size wins; one common size up to 128 pixels is kept; everything else becomes 64 x 64.
    One channel where every image is stored grey, else three.
    """
    channels = 1 if all(probe.is_grey for probe in probes) else 3
    colour = "all grey" if channels == 1 else "colour"
    sizes = {(probe.height, probe.width) for probe in probes}
    height, width = next(iter(sizes))
    if size is not None:
        reason = f"[data] size = {size}"
        height = width = size
    elif len(sizes) == 1 and max(height, width) <= KEPT_SIDE:
        reason = "all images have this size"
    else:
        found = f"all are {height}x{width}" if len(sizes) == 1 else f"{len(sizes)} sizes"
        reason = f"{found}, not one of at most {KEPT_SIDE} pixels; key: [data] size"
        height = width = DEFAULT_SIDE
    how = "" if resize == "crop" else f"; [data] resize = {resize}"
    reason = f"{height}x{width}x{channels}: {reason}; {colour}{how}"
    return ImageForm(height, width, channels, reason, resize)


def probe_image(path: Path) -> Probe:
    """Read an image file's header.

    Raises:
        DataError: the file is damaged, of an unknown format, or too large to decode safely.
        PermissionError: the file may not be read.
    """
    with _opened(path) as image:
        width, height = _turned(image, image.size)
        return Probe(height, width, _is_grey(image))


def probe_array(pixels: PixelArray) -> Probe:
    """The size of every image in an array [N, H, W] or [N, H, W, C]."""
    return Probe(pixels.shape[1], pixels.shape[2], pixels.ndim == 3 or pixels.shape[3] == 1)


def decode_image(path: Path, form: ImageForm) -> NDArray[np.uint8]:
    """An image file as uint8 [H, W, C] of the given form.

    Raises:
        DataError: the file is damaged, of an unknown format, or too large to decode safely.
        PermissionError: the file may not be read.
    """
    with _opened(path) as image:
        if image.size != (form.width, form.height):
            # JPEG decodes faster at a fraction of its size; twice the target keeps it sharp.
            image.draft(None, _turned(image, (2 * form.width, 2 * form.height)))
        return _fitted(_to_8_bits(ImageOps.exif_transpose(image), image.format), form)


def decode_pixels(pixels: PixelArray, form: ImageForm) -> NDArray[np.uint8]:
    """One image of an array, [H, W] or [H, W, C], as uint8 [H, W, C] of the given form."""
    if pixels.dtype == np.uint16:
        pixels = _scaled_16_bits(pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return _fitted(_to_8_bits(Image.fromarray(np.ascontiguousarray(pixels))), form)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width}x{height} is more than {MAX_PIXELS} pixels")
            yield image
    except PermissionError:  # says nothing of the image
        raise
    except Exception as err:  # decoders raise what they like on damaged data, SyntaxError included
        raise DataError(f"{path} ({' '.join(str(err).split())})") from err


def _turned(image: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of an image as stored from those as seen, and the other way round.

    Pillow gives those of a TIFF as they are seen.
    """
    if image.format == "TIFF" or image.getexif().get(_ORIENTATION) not in _SIDEWAYS:
        return size
    return size[1], size[0]


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in {"1", "L", "LA", "I", "F"} or image.mode.startswith("I;16")


def _to_8_bits(image: Image.Image, stored_as: str | None = None) -> Image.Image:
    """The image in mode L or RGB; what is transparent becomes white.

    `stored_as` is the file's format, which an image that was turned does not have any more.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and stored_as in _16_BITS_IN_32):
        return Image.fromarray(_scaled_16_bits(np.asarray(image)))
    if image.mode in {"I", "F"}:
        raise ValueError(f"mode {image.mode} has no known range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        visible = image.convert("RGBA")
        page = Image.new("RGBA", visible.size, "white")
        return Image.alpha_composite(page, visible).convert("RGB")
    return image.convert("L" if image.mode in {"1", "L"} else "RGB")


def _scaled_16_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """0 to 65535 as 0 to 255, rounded."""
    scaled: NDArray[np.uint8] = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return scaled


def _fitted(image: Image.Image, form: ImageForm) -> NDArray[np.uint8]:
    """The image resized as the form says; then the channels of the form."""
    size = (form.width, form.height)
    if image.size != size:
        image = _RESIZES[form.resize](image, size)
    pixels = np.asarray(image.convert("L" if form.channels == 1 else "RGB"))
    return pixels.reshape(form.height, form.width, form.channels)


def _crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return ImageOps.fit(image, size, method=Image.Resampling.BICUBIC)


def _pad(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The whole image in the middle, on its own mean colour.

    One colour for all, such as black, would put the strongest edge of many an image at its border.
    """
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    mean = tuple(round(value) for value in ImageStat.Stat(image).mean)
    page = Image.new(image.mode, size, mean if len(mean) > 1 else mean[0])
    corner = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    page.paste(image.resize(inner, Image.Resampling.BICUBIC), corner)
    return page


def _stretch(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.BICUBIC)


_RESIZES: dict[str, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "crop": _crop,
    "pad": _pad,
    "stretch": _stretch,
}
