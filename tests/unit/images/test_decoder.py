"""From the bytes of an image file to pixels: every kind of file that a folder may hold, and every kind of damage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from tests.unit.images.image_files import decode, encoded, tiff

from darkroom.images import decoder
from darkroom.images.decoder import BrokenImageError, Decoder, Header, fit, read_header

GENERATOR = np.random.default_rng(0)
GRAY = GENERATOR.integers(0, 256, (6, 5), dtype=np.uint8)
COLOR = GENERATOR.integers(0, 256, (6, 5, 3), dtype=np.uint8)


def flat(color, mode="RGB"):
    return Image.new(mode, (8, 8), color)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_a_gray_png_keeps_every_pixel(pixels):
    assert np.array_equal(decode(encoded(Image.fromarray(pixels)), 1, pixels.shape), pixels[None])


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))))
def test_a_color_png_keeps_every_pixel(pixels):
    found = decode(encoded(Image.fromarray(pixels)), 3, pixels.shape[:2])
    assert np.array_equal(found, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("form", "options"),
    [("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
)
def test_lossless_formats_keep_every_pixel(form, options):
    content = encoded(Image.fromarray(COLOR), form, **options)
    assert np.array_equal(decode(content, 3, (6, 5)), COLOR.transpose(2, 0, 1))


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_lossy_formats_keep_a_flat_color(form):
    found = decode(encoded(flat((200, 100, 50)), form, quality=95), 3, (8, 8))
    # Chroma and rounding of the encoder cost a few steps of 255.
    assert np.abs(found.astype(int) - np.array([200, 100, 50])[:, None, None]).max() <= 4


def test_a_gray_image_asked_for_in_color_has_three_equal_channels():
    found = decode(encoded(Image.fromarray(GRAY)), 3, GRAY.shape)
    assert np.array_equal(found, np.stack([GRAY] * 3))


def test_a_color_image_asked_for_in_gray_is_its_luma():
    found = decode(encoded(Image.fromarray(COLOR)), 1, (6, 5))
    luma = COLOR @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    assert np.abs(found[0] - luma).max() <= 1


def test_a_palette_image_shows_its_colors():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    found = decode(encoded(image), 3, (1, 2))
    assert found.transpose(1, 2, 0).tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])], ids=["one color", "alpha of each color"])
def test_a_transparent_palette_color_becomes_white(transparency):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    found = decode(encoded(image, transparency=transparency), 3, (1, 2))
    assert found.transpose(1, 2, 0).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_a_transparent_gray_level_becomes_white():
    image = Image.fromarray(np.array([[7, 90]], dtype=np.uint8))
    assert decode(encoded(image, transparency=7), 1, (1, 2)).tolist() == [[[255, 90]]]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_gray_with_alpha_lies_on_white(form):
    image = Image.new("LA", (3, 1))
    image.putdata([(100, 255), (100, 0), (100, 128)])
    found = decode(encoded(image, form), 1, (1, 3))[0, 0].astype(int)
    assert found[:2].tolist() == [100, 255]
    assert abs(found[2] - (100 * 128 + 255 * 127) / 255) <= 1


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_color_with_alpha_lies_on_white(form, options):
    image = Image.new("RGBA", (3, 1))
    image.putdata([(200, 100, 0, 255), (1, 2, 3, 0), (200, 100, 0, 128)])
    found = decode(encoded(image, form, **options), 3, (1, 3)).transpose(1, 2, 0)[0].astype(int)
    assert found[0].tolist() == [200, 100, 0]
    assert found[1].tolist() == [255, 255, 255]
    blend = (np.array([200, 100, 0]) * 128 + 255 * 127) / 255
    assert np.abs(found[2] - blend).max() <= 1


def test_a_cmyk_jpeg_shows_the_color_that_its_inks_make():
    cyan = flat((255, 0, 0, 0), "CMYK")
    found = decode(encoded(cyan, "JPEG", quality=95), 3, (8, 8))
    assert np.abs(found[:, 4, 4].astype(int) - [0, 255, 255]).max() <= 4


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_gray_is_scaled_and_not_clipped(form):
    steps = np.arange(256, dtype=np.uint16).reshape(16, 16)
    found = decode(encoded(Image.fromarray(steps * 257), form), 1, (16, 16))
    assert np.array_equal(found[0], steps)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
def test_one_bit_images_are_black_and_white(form):
    dots = np.array([[True, False, True], [False, False, True]])
    found = decode(encoded(Image.fromarray(dots), form), 1, (2, 3))
    assert np.array_equal(found[0], dots * 255)


def test_only_the_first_picture_of_an_animation_counts():
    black, white = flat("black"), flat("white")
    assert not decode(encoded(black, "WEBP", save_all=True, append_images=[white], lossless=True), 3, (8, 8)).any()


# What a viewer does to the stored picture, by EXIF orientation, in numpy's words.
UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(np.transpose(stored), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_pictures_are_turned_upright(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(Image.fromarray(GRAY), form, exif=exif, **options)
    expected = UPRIGHT[orientation](GRAY)
    assert np.array_equal(decode(content, 1, expected.shape)[0], expected)
    header = read_header(content)
    assert (header.height, header.width) == expected.shape


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_does_not_exist_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(GRAY), exif=exif)
    assert np.array_equal(decode(content, 1, (6, 5))[0], GRAY)
    assert read_header(content) == Header(width=5, height=6, channels=1)


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("I;16", 1), ("RGB", 3), ("RGBA", 3)],
)
def test_the_header_tells_gray_from_color_and_eight_bits_from_more(mode, channels):
    expected = Header(width=7, height=4, channels=channels, is_deep=mode == "I;16")
    assert read_header(encoded(Image.new(mode, (7, 4)))) == expected


def test_reading_a_header_decodes_no_pixels():
    content = encoded(Image.fromarray(COLOR))
    pixels_begin = content.index(b"IDAT") + 4
    assert read_header(content[: pixels_begin + 8]) == Header(width=5, height=6, channels=3)


def test_a_larger_picture_is_scaled_down_to_fill_the_size():
    quarters = np.zeros((40, 40), dtype=np.uint8)
    quarters[:20, 20:] = 80
    quarters[20:, :20] = 160
    quarters[20:, 20:] = 240
    found = fit(Image.fromarray(quarters), 1, (10, 10), "crop")[0]
    # Away from the edges between the quarters scaling changes nothing.
    assert (found[1, 1], found[1, 8], found[8, 1], found[8, 8]) == (0, 80, 160, 240)


@pytest.mark.parametrize("axis", [0, 1])
def test_what_stands_over_is_cropped_evenly(axis):
    # Three squares in a row: only the middle one is left.
    row = np.repeat(np.array([50, 100, 150], dtype=np.uint8), 8)
    strip = np.tile(row, (8, 1))
    strip = strip if axis == 1 else strip.T
    assert (fit(Image.fromarray(strip), 1, (8, 8), "crop") == 100).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(0, 255),
    st.sampled_from([1, 3]),
)
def test_a_flat_picture_stays_flat_at_any_size(width, height, new_width, new_height, level, channels):
    picture = Image.new("L", (width, height), level)
    for how in ("crop", "stretch"):
        found = fit(picture, channels, (new_height, new_width), how)
        assert found.shape == (channels, new_height, new_width)
        assert found.dtype == np.uint8
        assert (found == level).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_padding_keeps_the_whole_picture_between_bars_of_its_borders_color(width, height, new_width, new_height):
    picture = Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width), dtype=np.uint8))
    found = fit(picture, 1, (new_height, new_width), "pad")[0]
    scale = min(new_width / width, new_height / height)
    inner = (max(1, round(scale * width)), max(1, round(scale * height)))
    left, top = (new_width - inner[0]) // 2, (new_height - inner[1]) // 2
    whole = np.asarray(picture.resize(inner, Image.Resampling.LANCZOS))
    assert np.array_equal(found[top : top + inner[1], left : left + inner[0]], whole)
    bars = np.ones(found.shape, bool)
    bars[top : top + inner[1], left : left + inner[0]] = False
    border = np.concatenate([whole[0], whole[-1], whole[:, 0], whole[:, -1]])
    assert (found[bars] == int(np.median(border))).all()


def test_padding_shows_all_of_a_wide_picture():
    strip = np.repeat(np.array([50, 100, 150], dtype=np.uint8), 8)[None].repeat(8, 0)
    found = fit(Image.fromarray(strip), 1, (24, 24), "pad")[0]
    assert np.array_equal(found[8:16], strip)
    assert np.unique(np.delete(found, np.s_[8:16], axis=0)).tolist() == [100]  # the median of its border


@pytest.fixture(scope="module")
def photograph():
    """Soft shapes of many sizes, as in a photograph: 1,000 by 700 pixels."""
    chance = np.random.default_rng(0)
    layers = [chance.uniform(0, 255, (700 // step + 2, 1000 // step + 2, 3)) for step in (4, 16, 64, 256)]
    sizes = [Image.fromarray(layer.astype(np.uint8)).resize((1000, 700), Image.Resampling.BICUBIC) for layer in layers]
    return Image.fromarray(np.mean([np.asarray(each) for each in sizes], axis=0).astype(np.uint8))


@pytest.fixture
def decoded_sizes(monkeypatch):
    """The size of each picture that is decoded, (width, height)."""
    found, picture = [], Decoder._picture
    monkeypatch.setattr(
        Decoder, "_picture", lambda self, image, content: found.append(image.size) or picture(self, image, content)
    )
    return found


@pytest.mark.parametrize("how", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_smaller_and_shows_the_same(photograph, decoded_sizes, how, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(photograph, "JPEG", quality=90, exif=exif), 3, (48, 64), fit=how)
    whole = decode(encoded(photograph, "PNG", exif=exif), 3, (48, 64), fit=how)

    reduced, plain = decoded_sizes
    assert reduced[0] < plain[0] / 2
    assert np.abs(found.astype(int) - whole).mean() <= 2


@pytest.mark.parametrize("size", [(700, 1000), (350, 500), (351, 501)])
def test_a_jpeg_that_hardly_shrinks_is_decoded_as_it_is(photograph, decoded_sizes, size):
    decode(encoded(photograph, "JPEG"), 3, size, fit="stretch")

    assert decoded_sizes == [photograph.size]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_truncated_file_is_refused(form, kept):
    noise = GENERATOR.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), form)
    with pytest.raises(BrokenImageError, match=r"."):
        decode(content[: int(len(content) * kept)], 3, (64, 64))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", bytes(1000)])
@pytest.mark.parametrize("reading", [read_header, lambda content: decode(content, 3, (8, 8))])
def test_what_is_no_image_is_refused(content, reading):
    with pytest.raises(BrokenImageError, match=r"not an image|an empty file"):
        reading(content)


def test_a_format_that_is_not_on_the_list_is_refused():
    with pytest.raises(BrokenImageError, match="not an image"):
        decode(encoded(flat("red"), "ICO"), 3, (8, 8))


@pytest.mark.parametrize("reading", [read_header, lambda content: decode(content, 1, (8, 8))])
def test_too_many_pixels_are_refused_before_they_are_decoded(reading):
    # One bit a pixel, all the same: 30 KB that would unpack to 110 million pixels.
    content = encoded(Image.new("1", (11_000, 10_000)))
    with pytest.raises(BrokenImageError, match="11000x10000 pixels, more than 100,000,000"):
        reading(content)


def test_a_bomb_beyond_pillows_own_bound_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(BrokenImageError, match=r"^more than 100,000,000 pixels$"):
        decode(encoded(flat("red")), 3, (8, 8))


def test_a_picture_is_not_called_broken_where_memory_ran_out(monkeypatch):
    def load(image):
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(MemoryError):
        decode(encoded(flat("red")), 1, (4, 4))


def test_the_bound_itself_is_allowed(monkeypatch):
    monkeypatch.setattr(decoder, "MAX_PIXELS", 64)
    assert decode(encoded(flat("white")), 1, (8, 8)).min() == 255


def outcome(reading, content):
    try:
        reading(content)
    except BrokenImageError as problem:
        return str(problem)
    return "readable"


def only_broken(content):
    """Any other exception goes through and fails the test; so does a refusal without a reason."""
    return outcome(read_header, content) and outcome(lambda content: decode(content, 3, (8, 8)), content)


# Bytes alone never get past the formats' first check.
MAGIC = (
    b"",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"\xff\xd8\xff\xe0",
    b"RIFF\x20\0\0\0WEBPVP8 ",
    b"BM",
    b"II*\0\x08\0\0\0",
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(MAGIC), st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_broken_image(magic, content):
    assert only_broken(magic + content)


def wholes():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(COLOR)
    return [encoded(picture, form, exif=exif) for form in ("PNG", "JPEG", "WEBP")] + [
        encoded(picture, "TIFF"),
        encoded(picture, "BMP"),
        encoded(picture.convert("P"), transparency=0),
        encoded(picture.convert("RGBA")),
    ]


# Damaged headers may well ask PIL for warnings; in production they go to standard error.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_raise_nothing_but_broken_image(long):
    @settings(max_examples=300 if long else 60, deadline=None)
    @given(st.sampled_from(wholes()), st.data())
    def check(content, data):
        damaged = bytearray(content)
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        assert only_broken(bytes(damaged[: data.draw(st.integers(1, len(damaged)))]))

    check()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bands", [1, 3])
def test_tiles_at_the_edges_of_a_deep_tiff_keep_every_value(bands, order):
    values = np.random.default_rng(0).integers(780, 1057, (20, 24, bands), dtype=np.uint16)
    content = tiff(values if bands == 3 else values[..., 0], 2 if bands == 3 else 1, order=order, tile=16)

    found = Decoder(bands, (20, 24), value_range=(780, 1035))(content)

    assert np.array_equal(found, np.clip(values.transpose(2, 0, 1) - 780, 0, 255))
