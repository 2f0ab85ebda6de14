"""Forms that are read without the library: as it reads them, or not at all."""

import asyncio
from random import Random

import pytest
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from tests.serving.fakes import png

from darkroom.serving.request_parsing import read_simple_form

TYPE = "multipart/form-data; boundary=b-1"


def part(content, name="images", file="a.png", kind="image/png"):
    lines = [f'Content-Disposition: form-data; name="{name}"; filename="{file}"']
    if kind:
        lines.append(f"Content-Type: {kind}")
    return b"--b-1\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


def form(*parts, end=b"--b-1--\r\n"):
    return b"".join(parts) + end


def read_by_library(body, content_type=TYPE):
    """The files of a form, or what is wrong with it."""

    async def stream():
        yield body

    async def read():
        found = await MultiPartParser(Headers({"content-type": content_type}), stream()).parse()
        try:
            return [await value.read() if isinstance(value, UploadFile) else value for _, value in found.multi_items()]
        finally:
            await found.close()

    try:
        return asyncio.run(read())
    except MultiPartException as problem:
        return str(problem)


@pytest.mark.parametrize(
    "body",
    [
        form(part(png(1))),
        form(part(png(1)), part(png(2), kind="")),
        form(part(png(1)), end=b"--b-1--"),
        form(part(b"")),
        form(part(b"\r\n--b-2\r\n\r\n--b"), part(b"\r\n")),
        form(*[part(png(shade)) for shade in range(64)]),
    ],
)
def test_a_form_as_clients_write_it_is_read_as_the_library_reads_it(body):
    found = read_simple_form(body, TYPE)
    assert found
    assert found == read_by_library(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b-1--\r\n",
        form(part(png(1)), end=b""),
        form(part(png(1)), end=b"--b-1--\r\nmore"),
        b"before\r\n" + form(part(png(1))),
        form(b'--b-1\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n1\r\n'),
        form(part(png(1), file='a\\".png')),
        form(part(png(1), kind="image/png\r\nX-More: 1")),
        form(part(png(1))).replace(b"\r\n", b"\n"),
        form(part(b"a\r\n--b-1 \r\nb")),
        form(part(b"a\r\n--b-1x")),
        form(part(b"--b-1")),
    ],
)
def test_every_other_form_is_left_to_the_library(body):
    assert read_simple_form(body, TYPE) is None


def test_a_boundary_in_quotes_is_left_to_the_library():
    assert read_simple_form(form(part(png(1))), 'multipart/form-data; boundary="b-1"') is None


def test_changed_forms_are_read_as_the_library_reads_them_or_not_at_all():
    random = Random(0)
    whole = form(part(b"first\r\n"), part(b"second", kind=""), part(b""))
    pieces = [b"\r\n", b"--b-1", b"--", b"\r", b"\n", b"b-1", b" ", b'"', b"\0", b'; name="x"', b": ", b"\r\n\r\n"]
    read = 0
    for _ in range(3000):
        body = whole
        for _ in range(random.randrange(1, 4)):
            place, end = random.randrange(len(body) + 1), random.choice((0, 0, 1, 3))
            body = body[:place] + random.choice(pieces) * random.randrange(2) + body[place + end :]
        found = read_simple_form(body, TYPE)
        if found is not None:
            assert found == read_by_library(body), body
            read += body != whole
    assert read > 50
