"""A page keeps every digit of a number, shows names as they are written, and holds its pictures."""

import base64
import io

import torch
from PIL import Image

from pipeline.pages import picture, render_page

TEMPLATE = """{% extends "base.html" %}
{% from "macros.html" import number, cell %}
{% block title %}{{ name }}{% endblock %}
{% block content %}
{{ number("score", score, 2) }} {{ number("gain", score, 1, true) }} {{ number("count", 12) }}
<table><tr>{{ cell("none", none) }}</tr></table>
{% endblock %}
"""


def test_numbers_keep_their_digits_and_names_cannot_become_markup(tmp_path):
    (tmp_path / "page.html").write_text(TEMPLATE)

    page = render_page(tmp_path, "page.html", name="<b>cat", score=0.123456789, none=None)

    assert "<title>&lt;b&gt;cat</title>" in page
    assert 'data-key="score" data-value="0.123456789">0.12</span>' in page
    assert ">+0.1</span>" in page
    assert 'data-value="12">12</span>' in page
    assert '<td class="number" data-key="none" data-value="">-</td>' in page
    assert "http" not in page


def test_a_picture_is_a_png_of_the_pixels():
    pixels = torch.arange(8 * 8 * 3, dtype=torch.uint8).reshape(8, 8, 3)

    kind, _, content = picture(pixels).partition(",")

    assert kind == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert image.tobytes() == pixels.numpy().tobytes()
