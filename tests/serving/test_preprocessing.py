"""Every kind of picture that somebody may send, as real files: taken as it looks, or refused in one line."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin
from tests.unit.images.image_files import chunk, decode, encoded

from darkroom.images import decoder, depth
from darkroom.images.containers import MAX_SCANS
from darkroom.serving.preprocessing import RefusedImageError, Transform

GENERATOR = np.random.default_rng(0)
COLOR = Transform((3, 8, 8), None)
GRAY = Transform((1, 8, 8), None)


def noise(mode="RGB", size=(8, 8)):
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,), "LA": (2,)}[mode]
    return Image.fromarray(GENERATOR.integers(0, 256, (*size, *channels), dtype=np.uint8), mode)


def refused(content, pattern, transform=COLOR, **options):
    with pytest.raises(RefusedImageError, match=pattern) as found:
        transform(content, **options)
    assert str(found.value).isprintable()
    assert len(str(found.value)) <= 300


# --- what is taken --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP"])
def test_a_picture_of_the_models_size_arrives_as_it_is(form):
    picture = noise()
    found = COLOR(encoded(picture, form, **({"lossless": True} if form == "WEBP" else {})))
    assert np.array_equal(found.pixels, np.asarray(picture).transpose(2, 0, 1))
    assert not found.inverted


def test_a_jpeg_arrives_within_its_losses():
    found = COLOR(encoded(Image.new("RGB", (8, 8), (200, 100, 50)), "JPEG", quality=95)).pixels
    assert np.abs(found.astype(int) - np.array([200, 100, 50])[:, None, None]).max() <= 4


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_inks_of_print_are_shown_in_their_colors(form):
    # PIL writes JPEG as Adobe does, with the inks inverted and a marker that says so.
    content = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), form)
    assert (b"Adobe" in content) == (form == "JPEG")
    found = COLOR(content).pixels[:, 4, 4].astype(int)
    assert np.abs(found - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(form):
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    found = GRAY(encoded(Image.fromarray(deep), form)).pixels[0]
    assert np.abs(found - deep / 257).max() <= 1


def test_sixteen_bits_of_each_color_are_scaled_to_eight():
    # PIL does not write these: a PNG of one red, one green pixel by hand.
    rows = b"\0" + struct.pack(">6H", 65535, 0, 0, 0, 65535, 0)
    content = png((2, 1, 16, 2), chunk(b"IDAT", zlib.compress(rows)))
    found = Transform((3, 1, 2), None)(content).pixels
    assert found.transpose(1, 2, 0).tolist() == [[[255, 0, 0], [0, 255, 0]]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_turned_photograph_is_seen_upright(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:4, :4] = 255
    ways = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL's transpositions that undo what the tag says
    lying = Image.fromarray(upright)
    if orientation > 1:
        lying = lying.transpose(Image.Transpose(ways[orientation]))
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    found = COLOR(encoded(lying, form, exif=exif, **options)).pixels
    assert np.abs(found.transpose(1, 2, 0).astype(int) - upright).max() <= 12


def test_a_transparent_palette_color_lies_on_white():
    picture = Image.new("P", (8, 8))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putdata([0, 1] * 32)
    found = COLOR(encoded(picture, transparency=1)).pixels[:, 0, :2]
    assert found.T.tolist() == [[10, 20, 30], [255, 255, 255]]


def test_one_bit_is_black_and_white():
    dots = GENERATOR.random((8, 8)) > 0.5
    for form in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(GRAY(encoded(Image.fromarray(dots), form)).pixels[0], dots * 255)


def test_gray_with_alpha_lies_on_white():
    picture = Image.new("LA", (8, 8), (100, 0))
    picture.putpixel((0, 0), (100, 255))
    for form in ("PNG", "TIFF"):
        found = GRAY(encoded(picture, form)).pixels[0]
        assert found[0, 0] == 100
        assert (found.ravel()[1:] == 255).all()


def test_a_photograph_with_a_preview_in_the_same_file_is_its_first_picture():
    first, second = Image.new("RGB", (8, 8), "white"), Image.new("RGB", (4, 4), "black")
    content = encoded(first, "MPO", save_all=True, append_images=[second])
    assert COLOR(content).pixels.min() > 250


def test_a_color_profile_does_no_harm():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = noise()
    found = COLOR(encoded(picture, "PNG", icc_profile=profile)).pixels
    assert np.array_equal(found, np.asarray(picture).transpose(2, 0, 1))


@pytest.mark.parametrize("width", [1, 500])
def test_any_shape_becomes_the_models(width):
    assert COLOR(encoded(Image.new("RGB", (width, 3)))).pixels.shape == (3, 8, 8)


def large(mode):
    if mode == "1":
        return Image.fromarray(GENERATOR.random((60, 50)) > 0.5)
    if mode in ("I;16", "F"):
        deep = GENERATOR.random((60, 50)) * 40_000
        return Image.fromarray(deep.astype(np.uint16 if mode == "I;16" else np.float32))
    return noise(mode, (60, 50))


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "F", "LA", "RGBA", "CMYK", "P"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_picture_is_converted_in_parts_to_the_same_pixels(monkeypatch, mode, channels):
    if mode == "P":
        content = encoded(noise("L", (60, 50)).convert("P"), "PNG", transparency=bytes(range(256)))
    else:
        content = encoded(large(mode), "TIFF")
    limits = (0, 40_000) if mode in ("I;16", "F") else None
    whole = decode(content, channels, (20, 20), value_range=limits)
    monkeypatch.setattr(decoder, "BAND_PIXELS", 7 * 50)
    monkeypatch.setattr(depth, "ROWS_PIXELS", 7 * 50)
    assert np.array_equal(decode(content, channels, (20, 20), value_range=limits), whole)


# --- what is refused ------------------------------------------------------------------------------------


def png(header, *chunks):
    """A PNG by hand; ``header`` is its width, height, bits of each channel, and kind of color."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["ICO", "TGA", "PDF", "EPS"])
def test_other_forms_are_refused(form):
    refused(encoded(Image.new("RGB", (16, 16)), form), "not an image; expected png, jpeg, webp, bmp")


@pytest.mark.parametrize("content", [b"", b"text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", bytes(5000)])
def test_what_is_no_picture_is_refused(content):
    refused(content, r"not an image|an empty file|an SVG drawing")


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "GIF"])
def test_the_first_of_several_pictures_or_pages_counts_as_in_training(form):
    frames = [noise(), noise()]
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert np.array_equal(COLOR(content).pixels, decode(content, 3, (8, 8)))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_more_pixels_than_allowed_are_refused_and_the_bound_itself_is_not(form):
    content = encoded(noise(), form)
    assert COLOR(content, max_pixels=64).pixels.shape == (3, 8, 8)
    refused(content, "^8x8 pixels, more than 63$", max_pixels=63)


@pytest.mark.parametrize("drawn", [False, True])
def test_a_header_that_tells_of_too_much_is_refused_before_anything_is_unpacked(drawn, monkeypatch):
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("was decoded"))
    content = png((9_000, 9_000, 8, 2), chunk(b"IDAT", zlib.compress(b"")))
    refused(content, "9000x9000 pixels, more than 50,000,000", max_pixels=50_000_000, drawn=drawn)


@pytest.mark.parametrize("side", [0x7FFFFFFF, 2_000_000_000, 60_000])
def test_a_huge_header_is_refused(side):
    refused(png((side, side, 8, 2), chunk(b"IDAT", zlib.compress(b""))), "pixels")


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_a_picture_without_pixels_is_refused(size):
    refused(png((*size, 8, 2), chunk(b"IDAT", zlib.compress(b""))), "pixels, none at all|not an image")
    bmp = bytearray(encoded(noise(), "BMP"))
    bmp[18:26] = struct.pack("<ii", *size)
    refused(bytes(bmp), "pixels, none at all|not an image")


BOMB = zlib.compress(bytes(200_000_000), 9)


@pytest.mark.parametrize(
    "part",
    [
        chunk(b"zTXt", b"note\0\0" + BOMB),
        chunk(b"iTXt", b"note\0\1\0\0\0" + BOMB),
        chunk(b"iCCP", b"profile\0\0" + BOMB),
    ],
    ids=["zTXt", "iTXt", "iCCP"],
)
@pytest.mark.parametrize("after", [False, True], ids=["before the pixels", "after them"])
def test_text_that_unpacks_to_much_more_takes_no_memory(part, after):
    pixels = chunk(b"IDAT", zlib.compress(b"\0\1\2\3"))
    content = png((1, 1, 8, 2), *((pixels, part) if after else (part, pixels)))
    assert len(content) < 300_000
    tracemalloc.start()
    reason = outcome(COLOR, content)
    assert reason is None or "too large" in reason
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_pixels_that_unpack_to_more_than_the_header_says_take_no_memory():
    content = png((8, 8, 8, 2), chunk(b"IDAT", BOMB))
    tracemalloc.start()
    COLOR(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_jpeg_of_endlessly_many_scans_is_refused():
    content = encoded(noise(), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    assert COLOR(content).pixels.shape == (3, 8, 8)
    refused(content[:-2] + last * MAX_SCANS + content[-2:], f"a JPEG of more than {MAX_SCANS} scans")


def test_floats_are_refused_by_a_model_that_learned_from_eight_bits():
    refused(encoded(Image.fromarray(np.array([[0, 0.5]], np.float32)), "TIFF"), "floats, where 8 bits are expected")


# --- damage ---------------------------------------------------------------------------------------------


def wholes():
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_itxt("note", "x" * 50, zip=True)
    picture = noise()
    return {
        "png": encoded(picture, pnginfo=text, exif=exif),
        "jpeg": encoded(picture, "JPEG", exif=exif),
        "progressive": encoded(picture, "JPEG", progressive=True),
        "webp": encoded(picture, "WEBP", exif=exif),
        "bmp": encoded(picture, "BMP"),
        "tiff": encoded(picture, "TIFF", compression="tiff_lzw"),
        "palette": encoded(picture.convert("P"), transparency=0),
        "deep": encoded(Image.fromarray(np.full((8, 8), 40_000, np.uint16)), "TIFF"),
        "cmyk": encoded(noise("CMYK"), "JPEG"),
    }


WHOLES = wholes()


def outcome(transform, content, **options):
    """None for a picture that is taken, else why it is refused; any other exception fails the test."""
    try:
        found = transform(content, **options)
    except RefusedImageError as problem:
        return str(problem)
    assert found.pixels.shape == (transform.decoder.channels, *transform.decoder.size)
    return None


def is_one_line(reason):
    return reason is None or (bool(reason) and reason.isprintable())


# In production the decoders' own doubts about damaged bytes go to standard error.
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", WHOLES)
def test_a_file_cut_at_any_byte_is_refused_in_one_line_unless_all_its_pixels_are_there(name):
    content = WHOLES[name]
    whole = COLOR(content).pixels
    refusals = 0
    for end in range(len(content)):
        reason = outcome(COLOR, content[:end])
        assert is_one_line(reason)
        refusals += reason is not None
        if reason is None:
            assert np.array_equal(COLOR(content[:end]).pixels, whole)
    assert refusals > len(content) / 2


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_changed_bytes_raise_nothing_but_refusals(long):
    @settings(max_examples=300 if long else 60, deadline=None)
    @given(st.sampled_from(sorted(WHOLES)), st.data())
    def check(name, data):
        content = bytearray(WHOLES[name])
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        assert is_one_line(outcome(GRAY, bytes(content), max_pixels=1_000_000))

    check()
