"""Which files are images: what Pillow writes is known by its first bytes, and texts are not."""

import io
import struct

import pytest
from PIL import Image

from darkroom.datasets.signatures import HEAD_BYTES, begins_as_image, has_image_suffix, is_image, suffix


def saved(kind, mode="RGB", **options):
    stream = io.BytesIO()
    Image.new(mode, (3, 2)).save(stream, kind, **options)
    return stream.getvalue()


WRITTEN = [
    *(("PNG", mode) for mode in ("1", "L", "RGB", "RGBA")),
    *((kind, "RGB") for kind in ("JPEG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000")),
    *(("PPM", mode) for mode in ("1", "L", "F")),
]


@pytest.mark.parametrize(("kind", "mode"), [each for each in WRITTEN if each[0] != "DIB"])
def test_what_pillow_writes_is_an_image_whatever_its_name(kind, mode):
    head = saved(kind, mode)[:HEAD_BYTES]
    assert begins_as_image(head)
    assert all(is_image(name, head) for name in ("cat/1", "cat/1.txt", "cat.d/1.dat"))


@pytest.mark.parametrize(
    "head",
    [
        saved("TIFF", big_tiff=True)[:HEAD_BYTES],
        b"\xff\x4f\xff\x51" + bytes(60),
        b"P1 # a comment\n3 2\n1 1 1 0 0 0",
        b"P3\n3 2\n255\n",
        b"P6\n#CREATOR\n3 2\n255\n",
        struct.pack(">I", 28) + b"ftypmif1\0\0\0\0mif1avif",
    ],
)
def test_rarer_forms_are_known_too(head):
    assert begins_as_image(head)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"BM",
        b"BMW and Mercedes, a list of cars\n",
        b"P1 is the first patient\n",
        b"P5",
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"\0" * 64,
        struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic",
        struct.pack(">I", 24) + b"ftypmp42\0\0\0\0isomavc1",
    ],
)
def test_texts_films_and_other_files_are_none(head):
    assert not begins_as_image(head)


@pytest.mark.parametrize(
    "name", ["a.png", "a.JPG", "cat/1.jpeg", "b.WebP", "c.dib", "d.tiff", "e.jfif", "f.GIF", "g.ppm"]
)
def test_a_name_that_promises_an_image_is_one_even_if_it_is_broken(name):
    assert has_image_suffix(name)
    assert is_image(name, b"text")


@pytest.mark.parametrize("name", ["a.txt", "png", "cat.png/1", "cat/.png", "a.jpg.txt", "a."])
def test_other_names_promise_nothing(name):
    assert not has_image_suffix(name)
    assert not is_image(name, b"text")


@pytest.mark.parametrize("name", ["a.nef", "a.DNG", "a.arw"])
def test_raw_files_of_cameras_are_no_images_though_they_are_tiff(name):
    assert not is_image(name, saved("TIFF")[:HEAD_BYTES])


@pytest.mark.parametrize(("name", "ending"), [("a.b.JPG", ".jpg"), ("a.b/c", ""), (".hidden", ""), ("é.Ä", ".ä")])
def test_a_suffix_is_that_of_the_last_part(name, ending):
    assert suffix(name) == ending
