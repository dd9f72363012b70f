"""One self-contained HTML file from a template, with its pictures in it."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from torch import Tensor

_SHARED = Path(__file__).with_name("templates")
_LONGEST_SIDE = 128


def render_page(templates: Path, name: str, /, **values: Any) -> str:
    """The template `name` of a folder, which may extend base.html and import macros.html."""
    environment = Environment(
        loader=FileSystemLoader([templates, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = _shown
    return environment.get_template(name).render(**values)


def picture(pixels: Tensor) -> str:
    """An image uint8 [H, W, C] as the address of an inline PNG."""
    array = pixels.numpy()
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _shown(value: float | str | None, digits: int, sign: bool = False) -> str:
    """A value as people read it; whole numbers and texts stay as they are."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return format(value, f"{'+' if sign else ''}.{digits}f")
    return str(value)
