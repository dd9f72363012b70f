"""A picture of the first cached images with their labels, for a person to look at."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pipeline.artifacts import write_whole
from pipeline.data.cache import Part

_COLUMNS, _ROWS = 8, 8
_SIDE, _CAPTION, _GAP = 112, 16, 4
_FONT = "mpl-data/fonts/ttf/DejaVuSans.ttf"


def write_contact_sheet(part: Part, classes: tuple[str, ...], path: Path) -> None:
    """Write a PNG of the first 64 images of `part`, each above its label, or its id without one.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    width, height = _SIDE + _GAP, _SIDE + _CAPTION + _GAP
    sheet = Image.new("RGB", (_COLUMNS * width + _GAP, _ROWS * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = _font()
    for place in range(min(_COLUMNS * _ROWS, len(part.ids))):
        row, column = divmod(place, _COLUMNS)
        left, top = _GAP + column * width, _GAP + row * height
        thumbnail = _thumbnail(part, place)
        sheet.paste(
            thumbnail, (left + (_SIDE - thumbnail.width) // 2, top + _SIDE - thumbnail.height)
        )
        draw.text((left, top + _SIDE), _caption(part, classes, place), fill="black", font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    write_whole(path, buffer.getvalue())


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """matplotlib's, which has most alphabets; Pillow's own draws no letter beyond ASCII."""
    package = find_spec("matplotlib")  # which is slow to import
    file = Path(package.origin).parent / _FONT if package and package.origin else None
    if file and file.is_file():  # some systems keep it elsewhere
        return ImageFont.truetype(file, size=11)
    return ImageFont.load_default(size=12)


def _thumbnail(part: Part, place: int) -> Image.Image:
    pixels = part.images[place].numpy()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    scale = _SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Enlarged pixels stay visible as squares.
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC
    return image.resize(size, method)


def _caption(part: Part, classes: tuple[str, ...], place: int) -> str:
    name = part.ids[place] if part.labels is None else _names(part.labels[place], classes)
    text = " ".join(name.split())
    longest = _SIDE // 7
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _names(label: Tensor, classes: tuple[str, ...]) -> str:
    """A class number, or one bool per class, in words."""
    if label.ndim == 0:
        return classes[int(label)]
    return " ".join(classes[number] for number in label.nonzero()[:, 0]) or "none"
