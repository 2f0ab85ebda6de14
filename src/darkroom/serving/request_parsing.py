"""Reading the pictures of a request, within bounds: nothing is decoded here but the request itself."""

import re
from base64 import b64decode
from http import HTTPStatus
from math import inf

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.types import Message, Receive

from darkroom.config.settings import Serve
from darkroom.utils.units import MEGABYTE

LONGEST_NUMBER = 20
# Parts of a form that are no files: to say of the first where it belongs.
MOST_FIELDS = 16
# Bytes that are read as JSON and base64 in the event loop: less than a millisecond.
SMALL_BODY = 1 << 17
BOUNDARY = re.compile(r"multipart/form-data; boundary=([A-Za-z0-9'()+_,./:=?-]{1,70})")
# The lines of a part before its bytes: a name and a file's name without anything escaped, and perhaps the type.
PART = re.compile(
    rb'Content-Disposition: form-data; name="[A-Za-z0-9_.\[\]-]{1,80}"; filename="[A-Za-z0-9_. ()-]{1,200}"\r\n'
    rb"(?:Content-Type: [a-z]{1,20}/[a-z0-9.+-]{1,60}\r\n)?\r\n",
)
URL_SAFE = str.maketrans("-_", "+/")
JSON = "application/json"
MULTIPART = "multipart/form-data"


class EncodedImages(BaseModel):
    """Pictures as base64, or as data URLs."""

    model_config = ConfigDict(extra="forbid")

    images: list[str] = Field(min_length=1, description="encoded image files, base64 or data: URLs")


async def read_images(request: Request, settings: Serve) -> list[bytes]:
    """The files of a request in multipart or JSON form, as they were sent.

    Raises HTTPException, with a status of the 4xx family, for one that is too large or not of these forms.
    """
    content_type, length = request.headers.get("content-type", ""), request.headers.get("content-length", "")
    form = content_type.partition(";")[0].strip().lower()
    announced = _read_length(length)
    bounded = Request(request.scope, _bounded(request.receive, announced, int(settings.max_request_mb * MEGABYTE)))
    if form == MULTIPART:
        is_small = announced is not None and announced <= SMALL_BODY
        contents = await _from_multipart(bounded, content_type if is_small else None, settings.max_images)
    elif form == JSON:
        body = await bounded.body()
        if len(body) > SMALL_BODY:
            contents = await run_in_threadpool(_from_json, body, settings.max_images)
        else:
            contents = _from_json(body, settings.max_images)
    else:
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send images as {MULTIPART} files, or as {JSON} with base64"
        )
    if any(not content for content in contents):
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, "an image is empty: 0 bytes")
    return contents


def _read_length(announced: str) -> float | None:
    """The bytes that a request announces, None if it does not."""
    if not announced.isdecimal():
        return None
    # Python reads numbers of some thousand digits only.
    return int(announced) if len(announced) <= LONGEST_NUMBER else inf


def _bounded(receive: Receive, announced: float | None, limit: int) -> Receive:
    """The messages of a request until ``limit`` bytes; what it announces counts before any of them is read."""
    if announced is not None and announced > limit:
        raise _too_large(limit)
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return receive_bounded


def _too_large(limit: int) -> HTTPException:
    return HTTPException(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the request is larger than {limit / MEGABYTE:g} MB, the most that is read",
    )


async def _from_multipart(request: Request, simple: str | None, most: int) -> list[bytes]:
    """The files of a form; ``simple`` is the content type of a small one, which may be read in a quicker way."""
    if simple is not None:
        # Starlette keeps the body, and reads the form from it below if this cannot.
        found = read_simple_form(await request.body(), simple)
        if found is not None:
            _check_count(len(found), most)
            return found
    async with request.form(max_files=most, max_fields=MOST_FIELDS) as form:
        for name, value in form.multi_items():
            if isinstance(value, str):
                raise HTTPException(
                    HTTPStatus.UNPROCESSABLE_ENTITY,
                    f"{name}: not a file; parameters belong in the address, as in /v1/predict?top_k=1, and files are "
                    "sent as in `curl -F images=@FILE`",
                )
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        _check_count(len(files), most)
        return [await file.read() for file in files]


def _from_json(body: bytes, most: int) -> list[bytes]:
    try:
        images = EncodedImages.model_validate_json(body).images
    except ValidationError as problem:
        error = problem.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, error["loc"]))
        raise HTTPException(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f'{place + ": " if place else ""}{error["msg"]}; expected {{"images": ["<base64>", …]}}, and parameters in '
            "the address, as in /v1/predict?top_k=1",
        ) from None
    _check_count(len(images), most)
    return [_decode(text, place) for place, text in enumerate(images)]


def _check_count(count: int, most: int) -> None:
    if not count:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, "no files; send one image at least")
    if count > most:
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{count} images, more than the {most} of one request")


def _decode(text: str, place: int) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return b64decode(text, validate=True)
    except ValueError:
        pass
    # In lines, for URLs, or without padding.
    plain = "".join(text.split()).translate(URL_SAFE).rstrip("=")
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"images.{place}: not base64") from None


def read_simple_form(body: bytes, content_type: str) -> list[bytes] | None:
    """The files of a form that consists of files alone, written as browsers, curl and HTTP libraries write it.

    None for every other form, which the library reads or refuses: it takes ten times as long. RFC 7578.
    """
    boundary = BOUNDARY.fullmatch(content_type)
    if not boundary:
        return None
    start, _, rest = body.partition(b"\r\n")
    delimiter = b"\r\n--" + boundary[1].encode()
    if start != delimiter[2:]:
        return None
    *parts, end = rest.split(delimiter)
    if end not in (b"--", b"--\r\n"):
        return None
    contents = []
    for number, part in enumerate(parts):
        # Each but the first begins with the rest of the delimiter's line.
        head = PART.match(part, 2 * (number > 0))
        if not head or (number and not part.startswith(b"\r\n")):
            return None
        contents.append(part[head.end() :])
    return contents
