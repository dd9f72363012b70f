"""One image file of every kind becomes the right uint8 pixels, or one line says what is wrong."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.data.images import (
    MAX_PIXELS,
    ImageForm,
    Probe,
    choose_form,
    decode_image,
    decode_pixels,
    probe_image,
)
from pipeline.errors import DataError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)


def form(height=6, width=9, channels=3, resize="crop") -> ImageForm:
    return ImageForm(height, width, channels, "", resize)


def saved(tmp_path, image: Image.Image, name="image.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_colour_and_grey_keep_their_pixels(tmp_path):
    colour = saved(tmp_path, Image.fromarray(COLOUR))
    np.testing.assert_array_equal(decode_image(colour, form()), COLOUR)
    assert probe_image(colour) == Probe(6, 9, is_grey=False)
    grey = saved(tmp_path, Image.fromarray(GREY))
    np.testing.assert_array_equal(decode_image(grey, form(channels=1))[:, :, 0], GREY)
    np.testing.assert_array_equal(decode_image(grey, form())[:, :, 2], GREY)
    assert probe_image(grey).is_grey


def test_16_bits_are_scaled_not_cut_off(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    for name in ("deep.png", "deep.tif", "deep.pgm"):
        path = saved(tmp_path, Image.fromarray(deep), name)
        np.testing.assert_array_equal(decode_image(path, form(channels=1))[:, :, 0], GREY)
        assert probe_image(path).is_grey
    np.testing.assert_array_equal(decode_pixels(deep, form(channels=1))[:, :, 0], GREY)
    twelve_bits = np.array([[0, 2048, 4095]], ">u2")
    (tmp_path / "12.pgm").write_bytes(b"P5\n3 1\n4095\n" + twelve_bits.tobytes())
    assert decode_image(tmp_path / "12.pgm", form(1, 3, 1)).ravel().tolist() == [0, 128, 255]


def test_palettes(tmp_path):
    image = Image.fromarray(GREY % 4).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    for name in ("p.png", "p.gif"):
        path = saved(tmp_path, image, name)
        np.testing.assert_array_equal(decode_image(path, form()), palette[GREY % 4])
        assert not probe_image(path).is_grey
    image.putpalette([9, 9, 9, 80, 80, 255])  # blue, of as much red as green
    assert not probe_image(saved(tmp_path, image)).is_grey
    image.putpalette([0, 0, 0, 80, 80, 80, 160, 160, 160, 240, 240, 240])
    path = saved(tmp_path, image)
    np.testing.assert_array_equal(decode_image(path, form(channels=1))[:, :, 0], GREY % 4 * 80)
    assert probe_image(path).is_grey


def test_transparent_pixels_become_white(tmp_path):
    opaque = RNG.random((6, 9)) < 0.5
    alpha = np.where(opaque, 255, 0).astype(np.uint8)
    path = saved(tmp_path, Image.fromarray(np.dstack([COLOUR, alpha])))
    expected = np.where(opaque[:, :, None], COLOUR, 255)
    np.testing.assert_array_equal(decode_image(path, form()), expected)
    path = saved(tmp_path, Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]))
    assert probe_image(path).is_grey
    np.testing.assert_array_equal(
        decode_image(path, form(channels=1))[:, :, 0], np.where(opaque, GREY, 255)
    )


def test_cmyk_and_1_bit(tmp_path):
    red = saved(tmp_path, Image.new("CMYK", (9, 6), (0, 255, 255, 0)), "cmyk.tif")
    assert decode_image(red, form())[0, 0].tolist() == [255, 0, 0]
    bits = saved(tmp_path, Image.fromarray(GREY > 99), "bits.png")
    np.testing.assert_array_equal(
        decode_image(bits, form(channels=1))[:, :, 0], np.where(GREY > 99, 255, 0)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, orientation):
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = turns[orientation](COLOUR)
    for name in ("turned.png", "turned.tif"):
        path = saved(tmp_path, Image.fromarray(COLOUR), name, exif=exif)
        probe = probe_image(path)
        assert (probe.height, probe.width) == seen.shape[:2]
        np.testing.assert_array_equal(decode_image(path, form(*seen.shape[:2])), seen)


def test_large_images_are_fitted_around_their_centre(tmp_path):
    wide = np.zeros((200, 400, 3), np.uint8)
    wide[:, 100:300] = (0, 200, 0)
    for name in ("a.png", "a.jpg"):
        pixels = decode_image(saved(tmp_path, Image.fromarray(wide), name), form(32, 32))
        assert pixels.shape == (32, 32, 3)
        assert np.abs(pixels[:, 2:-2].astype(int) - (0, 200, 0)).max() < 12
    assert decode_pixels(wide, form(32, 32, 1)).shape == (32, 32, 1)


def banded(height, width):
    """Red, green and blue in three parts along the longer side."""
    pixels = np.zeros((height, width, 3), np.uint8)
    along = pixels if height >= width else pixels.swapaxes(0, 1)
    for part, rows in enumerate(np.array_split(np.arange(max(height, width)), 3)):
        along[rows, :, part] = 240
    return pixels


def test_padding_keeps_the_whole_image_on_its_mean_colour():
    seen = decode_pixels(banded(20, 60), form(30, 30, resize="pad"))
    assert (seen[:10] == 80).all()
    assert (seen[20:] == 80).all()
    assert seen[15, [4, 15, 25]].argmax(1).tolist() == [0, 1, 2]
    grey = decode_pixels(np.full((40, 8), 7, np.uint8), form(16, 16, 1, resize="pad"))
    assert (grey == 7).all()
    assert decode_pixels(banded(1, 900), form(8, 8, resize="pad")).shape == (8, 8, 3)


def test_stretching_keeps_the_whole_image_and_cropping_its_centre():
    stretched = decode_pixels(banded(20, 60), form(30, 30, resize="stretch"))
    assert stretched[15, [4, 15, 25]].argmax(1).tolist() == [0, 1, 2]
    cropped = decode_pixels(banded(20, 60), form(30, 30))
    assert (cropped[:, 2:-2].argmax(2) == 1).all()


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_large_turned_jpeg_is_seen_as_the_same_pixels_stored_upright(
    tmp_path, resize, orientation
):
    """Also where draft mode decodes it at a fraction of its size."""
    upright = banded(400, 900)
    stored = np.rot90(upright, {1: 0, 3: 2, 6: 1, 8: -1}[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = saved(tmp_path, Image.fromarray(stored), "turned.jpg", exif=exif, quality=95)
    wanted = form(24, 40, resize=resize)
    expected = decode_pixels(upright, wanted).astype(int)
    np.testing.assert_allclose(decode_image(turned, wanted), expected, atol=40)


def test_a_turned_jpeg_is_decoded_with_enough_pixels(tmp_path):
    """Stripes two pixels wide, seen at their full size: a fourth of it would leave only grey."""
    stripes = np.zeros((800, 100, 3), np.uint8)
    stripes[:, ::4] = stripes[:, 1::4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, Image.fromarray(stripes), "turned.jpg", exif=exif, quality=95)
    seen = decode_image(path, form(100, 12, resize="stretch"))
    assert seen.astype(int).std() > 100


def test_a_large_jpeg_is_as_sharp_as_if_it_were_decoded_whole(tmp_path):
    blurred = Image.fromarray(RNG.integers(0, 256, (128, 128, 3), np.uint8)).resize((512, 512))
    path = saved(tmp_path, blurred, "large.jpg", quality=95)
    whole = decode_pixels(np.asarray(blurred), form(64, 64)).astype(int)
    assert abs(decode_image(path, form(64, 64)) - whole).mean() < 2


def test_the_form_and_its_reason():
    small, large = Probe(28, 20, True), Probe(300, 200, False)
    kept = choose_form([small, small], None)
    assert (kept.height, kept.width, kept.channels) == (28, 20, 1)
    assert kept.reason == "28x20x1: all images have this size; all grey"
    mixed = choose_form([small, large], None)
    assert (mixed.height, mixed.width, mixed.channels) == (64, 64, 3)
    assert "2 sizes, not one of at most 128 pixels; key: [data] size" in mixed.reason
    assert "all are 300x200" in choose_form([large], None).reason
    assert choose_form([Probe(20, 128, False)], None).width == 128
    assert choose_form([Probe(20, 129, False)], None).width == 64
    chosen = choose_form([small, large], 96)
    assert (chosen.height, chosen.width) == (96, 96)
    assert "[data] size = 96" in chosen.reason
    padded = choose_form([small, large], 96, "pad")
    assert (padded.resize, padded.reason) == ("pad", chosen.reason + "; [data] resize = pad")


def png_claiming(width: int, height: int) -> bytes:
    """A few bytes of PNG whose header says that the image is this large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_broken_files_are_data_errors(tmp_path):
    good = saved(tmp_path, Image.fromarray(np.tile(COLOUR, (20, 20, 1))), "good.jpg").read_bytes()
    broken = {
        "cut.jpg": good[: len(good) // 2],
        "text.jpg": b"<html>not found</html>",
        "empty.png": b"",
        "bomb.png": png_claiming(20_000, MAX_PIXELS // 20_000 + 1),
        "big-bomb.png": png_claiming(60_000, 60_000),
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name):
            decode_image(tmp_path / name, form())
    with pytest.raises(DataError, match=r"bomb.png .*20000x5001 is more than 100000000 pixels"):
        probe_image(tmp_path / "bomb.png")
    for kind in (np.float32, np.int32):
        path = saved(tmp_path, Image.fromarray(GREY.astype(kind)), "of32bits.tif")
        with pytest.raises(DataError, match="no known range"):
            decode_image(path, form())
    with pytest.raises(DataError, match=r"missing\.png"):
        probe_image(tmp_path / "missing.png")
