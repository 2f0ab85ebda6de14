"""What a request may cost: pixels are counted before any is decoded, and nothing large is done in the event loop."""

import asyncio
import dataclasses
import struct
import threading
import zlib
from base64 import b64encode

import httpx2
import numpy as np
import pytest
from PIL import Image
from tests.serving.client import TestClient
from tests.serving.fakes import SHAPE, make_loaded, png
from tests.unit.images.image_files import chunk, encoded
from tests.wait import wait_until

from darkroom.images import decoder
from darkroom.images.containers import webp_size
from darkroom.serving import api, request_parsing
from darkroom.serving.app import make_app
from darkroom.serving.preprocessing import Transform, count_pixels
from darkroom.serving.service import LARGE_PIXELS, LARGE_WAITING, SMALL_IMAGES, SMALL_PIXELS

PATH = "/v1/predict"


def empty_png(width, height):
    """A PNG whose pixels are a few bytes, whatever its header says."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def files(*contents):
    return [("images", content) for content in contents]


def many_scans(side, scans):
    """A progressive JPEG whose last scan is repeated."""
    content = encoded(Image.new("L", (side, side), 9), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * (scans - content.count(b"\xff\xda")) + content[-2:]


SCANS = many_scans(1000, 99)


class Watched(Transform):
    """Keeps the thread in which each picture was decoded; that of ``held`` waits for the event."""

    def __init__(self):
        super().__init__(SHAPE, None)
        self.threads = []
        self.held, self.goes_on = b"", threading.Event()

    def __call__(self, content, **options):
        if content == self.held and options["max_pixels"] > SMALL_PIXELS:
            self.goes_on.wait()
        seen = super().__call__(content, **options)
        self.threads.append(threading.current_thread().name)
        return seen


@pytest.fixture
def watched():
    watched = Watched()
    yield watched
    watched.goes_on.set()


@pytest.fixture
def service(make_service, watched, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    return make_service(dataclasses.replace(make_loaded(), transform=watched))


# --- sizes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}, {"save_all": True}])
@pytest.mark.parametrize("size", [(1, 1), (16, 300), (257, 3), (1000, 999), (16_383, 2)])
def test_the_size_of_a_webp_is_read_without_opening_it(size, options):
    more = {"append_images": [Image.new("RGB", size, "red")]} if "save_all" in options else {}
    assert webp_size(encoded(Image.new("RGB", size), "WEBP", **options, **more)) == size


@pytest.mark.parametrize("content", [b"", b"RIFF", png(1), encoded(Image.new("L", (8, 8)), "WEBP")[:29]])
def test_what_is_no_webp_or_ends_before_its_size_has_none(content):
    assert webp_size(content) is None


def test_a_webp_of_too_many_pixels_is_never_opened(client, monkeypatch):
    content = encoded(Image.new("RGB", (16_383, 4000)), "WEBP", lossless=True)[:34]
    monkeypatch.setattr(decoder.Image, "open", None)
    refused = client.post(PATH, files=files(content))
    assert refused.status_code == 422
    assert refused.json()["detail"] == "image 1: 16383x4000 pixels, more than 50,000,000"


def test_pixels_are_counted_as_the_decoder_counts_them():
    for form in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000"):
        assert count_pixels(encoded(Image.new("RGB", (30, 20)), form), 600) == 600


def test_pictures_of_too_many_pixels_together_are_refused_and_none_is_decoded(service, watched):
    with TestClient(make_app(service)) as client:
        refused = client.post(PATH, files=files(*[empty_png(7071, 7071)] * 64))
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("3,199,938,624 pixels in 64 images, more than the 64,000,000 of one")
    assert watched.threads == []


def test_scans_that_take_as_long_as_too_many_pixels_are_refused(make_service):
    with TestClient(make_app(make_service(max_pixels=1_000_000, max_request_pixels=2_000_000))) as client:
        refused = client.post(PATH, files=files(SCANS))
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("scans that take as long as 9,900,000 pixels, more than the 2,000,000")


def test_a_request_of_as_many_pixels_as_allowed_is_answered(make_service):
    with TestClient(make_app(make_service(max_pixels=5000, max_request_pixels=10_000))) as client:
        few, many = files(*[png(9, (50, 100))] * 2), files(*[png(9, (50, 100))] * 2, png(9, (1, 1)))
        assert client.post(PATH, files=few).status_code == 200
        assert client.post(PATH, files=many).status_code == 422


def test_an_image_that_fits_no_request_is_refused_as_a_setting(make_service):
    with pytest.raises(ValueError, match="an image of 50,000,000 pixels never fits max_request_pixels, 1,000"):
        make_service(max_request_pixels=1000)


# --- who does the work -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents", "thread"),
    [
        ([png(9, (28, 28))], "asyncio"),
        ([png(9, (28, 28))] * (SMALL_IMAGES + 1), "decode_"),
        ([encoded(Image.new("L", (600, 600)), "WEBP", lossless=True)], "decode_"),
        ([png(9, (2000, LARGE_PIXELS // 2000 + 1))], "decode-large_"),
        # Its decoder believes the pixels and not the header.
        ([encoded(Image.new("RGB", (8, 8)), "AVIF")], "decode-large_"),
        ([SCANS], "decode-large_"),
    ],
    ids=["small", "many", "medium", "large", "avif", "many scans"],
)
def test_only_what_is_small_is_decoded_in_the_event_loop(service, watched, contents, thread):
    with TestClient(make_app(service)) as client:
        assert client.post(PATH, files=files(*contents)).status_code == 200
    decoded_in = watched.threads[-1]
    assert decoded_in.startswith(thread) or (thread == "asyncio" and not decoded_in.startswith("decode"))


@pytest.mark.parametrize(("images", "is_apart"), [(1, False), (60, True)])
def test_large_requests_in_json_and_large_answers_are_read_and_written_beside_the_loop(
    service, monkeypatch, images, is_apart
):
    threads = {}

    def keep(module, name):
        do = getattr(module, name)

        def kept(*arguments):
            threads[name] = threading.current_thread().name
            return do(*arguments)

        monkeypatch.setattr(module, name, kept)

    keep(request_parsing, "_from_json")
    keep(api, "_write")
    noise = np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8)
    content = b64encode(encoded(Image.fromarray(noise), "PNG")).decode()
    with TestClient(make_app(service)) as client:
        monkeypatch.setattr(api, "SMALL_ANSWER", 200)
        assert client.post(PATH, json={"images": [content] * images}, params={"seen": True}).status_code == 200
    assert threads.keys() == {"_from_json", "_write"}
    assert [name.startswith("AnyIO") for name in threads.values()] == [is_apart] * 2


def test_large_requests_leave_a_decoder_to_the_others_and_few_of_them_wait(service, watched):
    large, medium = png(9, (2000, LARGE_PIXELS // 2000 + 1)), png(9, (600, 600))
    watched.held = large

    async def ask():
        transport = httpx2.ASGITransport(make_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=600) as client:
            many = [asyncio.create_task(client.post(PATH, files=files(large))) for _ in range(LARGE_WAITING)]
            await asyncio.to_thread(wait_until, lambda: service._large_waiting == LARGE_WAITING, "all were counted")
            refused = await client.post(PATH, files=files(large))
            meanwhile = await client.post(PATH, files=files(medium))
            ended = [task.done() for task in many]
            watched.goes_on.set()
            return refused, meanwhile, ended, await asyncio.gather(*many)

    refused, meanwhile, ended, answers = asyncio.run(ask())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert meanwhile.status_code == 200
    assert not any(ended)
    assert [answer.status_code for answer in answers] == [200] * LARGE_WAITING
