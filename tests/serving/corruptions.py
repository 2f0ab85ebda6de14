"""Requests that no well-meaning client sends, made from a seed: damaged images, broken forms, odd headers."""

import io
import json
import struct
import zlib
from base64 import b64encode
from dataclasses import dataclass, field
from functools import cache
from random import Random

import numpy as np
from PIL import Image

PATHS = (
    "/", "/docs", "/healthz", "/metrics", "/openapi.json", "/readyz", "/static/", "/static/app.js", "/v1/drift",
    "/v1/model", "/v1/model/confusion", "/v1/model/gallery", "/v1/predict", "/v1/shadow",
)  # fmt: skip
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "get", "BREW", "")
SEVERAL = object()
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass
class Sent:
    """A request as a server hands it to its application; ``path`` is percent-decoded."""

    method: str = "POST"
    path: str = "/v1/predict"
    query: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method!r} {self.path!r} ?{self.query!r} {self.headers!r}\n{self.body[:4000]!r}"


@cache
def whole_images() -> tuple[bytes, ...]:
    """Small files of every form and mode, those that are refused among them."""
    generator = np.random.default_rng(0)

    def picture(mode: str) -> Image.Image:
        channels = len(Image.new(mode, (1, 1)).getbands())
        pixels = generator.integers(0, 256, (11, 13, channels), dtype=np.uint8)
        return Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode)

    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a picture"
    color, gray, deep = picture("RGB"), picture("L"), Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4))
    second = picture("RGB")
    made = [
        (color, "PNG", {"exif": exif}),
        (gray, "PNG", {"transparency": 3}),
        (color.convert("P"), "PNG", {"transparency": bytes(range(256))}),
        (picture("RGBA"), "PNG", {}),
        (picture("LA"), "PNG", {}),
        (gray.convert("1"), "PNG", {}),
        (deep, "PNG", {}),
        (color, "PNG", SEVERAL),
        (color, "JPEG", {"exif": exif}),
        (gray, "JPEG", {"quality": 30}),
        (color, "JPEG", {"progressive": True}),
        (picture("CMYK"), "JPEG", {}),
        (color, "MPO", SEVERAL),
        (color, "WEBP", {"lossless": True, "exif": exif}),
        (picture("RGBA"), "WEBP", {}),
        (color, "WEBP", SEVERAL),
        (color, "BMP", {}),
        (gray, "BMP", {}),
        (gray.convert("1"), "BMP", {}),
        (color, "TIFF", {"compression": "tiff_lzw"}),
        (gray, "TIFF", {"compression": "packbits"}),
        (color, "TIFF", {"compression": "jpeg"}),
        (gray.convert("1"), "TIFF", {"compression": "group4"}),
        (picture("CMYK"), "TIFF", {"compression": "tiff_adobe_deflate"}),
        (color.convert("LAB"), "TIFF", {}),
        (deep, "TIFF", {}),
        (Image.fromarray(np.array([[0.5, 9e9]], np.float32)), "TIFF", {}),
        (color, "TIFF", SEVERAL),
        (color, "GIF", SEVERAL),
        (color, "ICO", {}),
        (color, "JPEG2000", {}),
    ]
    files = []
    for image, form, options in made:
        stream = io.BytesIO()
        if options is SEVERAL:
            options = {"save_all": True, "append_images": [second.copy()]}
        image.copy().save(stream, form, **options)  # a JPEG leaves its settings with the image
        files.append(stream.getvalue())
    return tuple(files)


def damaged(random: Random, content: bytes) -> bytes:
    """The content with one to four kinds of damage."""
    for _ in range(random.randint(1, 4)):
        changed = bytearray(content)
        at = random.randrange(len(changed) + 1)
        match random.randrange(8):
            case 0:
                for _ in range(random.randint(1, 8)):
                    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
            case 1:
                del changed[at:]
            case 2:
                other = random.choice(whole_images())
                changed[at:] = other[random.randrange(len(other)) :]
            case 3:
                changed[at:at] = random.randbytes(random.randint(1, 40))
            case 4:
                changed[at:at] = changed[at : at + random.randint(1, 200)] * random.randint(1, 20)
            case 5:
                changed[at : at + 4] = struct.pack(random.choice(("<I", ">I")), random.choice(NUMBERS))
            case 6:
                # Near the beginning, where the sizes are.
                early = random.randrange(min(64, len(changed)))
                changed[early : early + 2] = struct.pack(">H", random.choice(NUMBERS) & 0xFFFF)
            case 7:
                changed = bytearray(with_valid_checksums(bytes(changed)))
        content = bytes(changed) or b"\0"
    return content


def with_valid_checksums(content: bytes) -> bytes:
    """A PNG whose damage is not noticed by its checksums; anything else as it is."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    mended, at = bytearray(content[:8]), 8
    while at + 12 <= len(content):
        length = min(int.from_bytes(content[at : at + 4], "big"), len(content) - at - 12)
        body = content[at + 4 : at + 8 + length]
        mended += struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(mended)


def text(random: Random, longest: int = 30) -> str:
    """Letters, and what letters are not expected to be."""
    signs = "abc019 _-.;=\"'%&/\\\n\r\t\0\x7f\xff€😀\u2028\u202e"
    return "".join(random.choice(signs) for _ in range(random.randrange(longest)))


def image(random: Random) -> bytes:
    whole = random.choice(whole_images())
    return random.choice(
        (whole, damaged(random, whole), damaged(random, whole), random.randbytes(random.randrange(99)))
    )


def query(random: Random) -> bytes:
    if random.random() < 0.85:
        return random.choice((b"", b"top_k=1&invert=true", b"drawn=true&seen=true", b"invert=auto&challenger=true"))
    names = ("top_k", "invert", "drawn", "seen", "challenger", "topk", "", text(random))
    values = (
        "1", "2", "0", "-1", "true", "false", "auto", "1e999", "nan", "9" * 30, "٣", "", "\ud800", text(random),
    )  # fmt: skip
    pairs = [f"{random.choice(names)}={random.choice(values)}" for _ in range(random.randint(1, 4))]
    written = "&".join(pairs).encode("utf-8", "surrogatepass")
    return random.choice((written, written.replace(b"\n", b"%0A"), b"%" + written, random.randbytes(20), b"&" * 2000))


def well_formed(random: Random) -> Sent:
    """Images, most of them damaged, in a request whose form is without a fault."""
    others = odd_headers(random) if random.random() < 0.2 else []
    images = [image(random) for _ in range(random.choice((1, 1, 2, 3)))]
    if random.random() < 0.5:
        body = json.dumps({"images": [b64encode(each).decode() for each in images]}).encode()
        return Sent(query=query(random), headers=[(b"content-type", b"application/json"), *others], body=body)
    part = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n%b\r\n'
    body = b"".join(part % each for each in images) + b"--x--\r\n"
    kind = b"multipart/form-data; boundary=x"
    return Sent(query=query(random), headers=[(b"content-type", kind), *others], body=body)


def multipart(random: Random) -> Sent:
    """A form of images, whole or broken."""
    boundary = random.choice((b"x", b"b" * 70, b"--", b"a b", b"", random.randbytes(5), b"y" * 3000))
    parts = []
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, 20, 2000 if random.random() < 0.05 else 1))):
        name = random.choice((b"images", b"", b"n" * 20_000, text(random).encode(), b'"; filename="x', b"\xff\xfe"))
        disposition = random.choice(
            (
                b'form-data; name="%b"; filename="a.png"' % name,
                b'form-data; name="%b"' % name,
                b"form-data; name=%b; filename*=%b''%%ff%%fe" % (name, random.choice((b"utf-8", b"utf-99", b"\xff"))),
                b"form-data",
                b"attachment; " + name,
                name,
            )
        )
        headers = [b"Content-Disposition: " + disposition]
        if random.random() < 0.3:
            headers.append(
                random.choice(
                    (b"Content-Type: image/png", b"Content-Type: text/plain; charset=utf-99", b"Content-Length: 5",
                     b"Content-Transfer-Encoding: base64", b"no colon", b": empty", b"X: " + b"h" * 9000)
                )
            )  # fmt: skip
        parts.append(b"\r\n".join(headers) + b"\r\n\r\n" + image(random) + b"\r\n")
    separator = b"--" + boundary + b"\r\n"
    body = separator + separator.join(parts) + b"--" + boundary + b"--\r\n"
    if random.random() < 0.3:
        body = damaged(random, body)
    kind = random.choice(
        (
            b"multipart/form-data; boundary=" + boundary,
            b"multipart/form-data; boundary=" + boundary,
            b"multipart/form-data; boundary=" + boundary,
            b'multipart/form-data; boundary="' + boundary + b'"; charset=utf-99',
            b"multipart/form-data",
            b"multipart/form-data; boundary=",
            b"multipart/form-data; boundary=other",
            b"MULTIPART/FORM-DATA; BOUNDARY=" + boundary,
            b"multipart/mixed; boundary=" + boundary,
        )
    )
    return Sent(query=query(random), headers=[(b"content-type", kind)], body=body)


def in_json(random: Random) -> Sent:
    """Images as base64 in JSON, well-formed or not."""
    encoded = b64encode(image(random)).decode()
    forms = (
        encoded, encoded, encoded, f"data:image/png;base64,{encoded}", f"data:,{encoded}", "data:", encoded[:-1],
        encoded + "=", encoded.replace("A", "\n"), "", " ", "é", None, 1, 1e300, True, [], {}, [encoded], text(random),
    )  # fmt: skip
    images: object = [random.choice(forms) for _ in range(random.choice((0, 1, 1, 1, 2, 9)))]
    whole = random.choice(({"images": images}, {"images": images}, {"images": images}, {"images": encoded}, images,
                           {"images": {"0": encoded}}, {text(random): images, "images": images}, None, 5))  # fmt: skip
    written = json.dumps(whole).encode()
    body = random.choice(
        (
            written, written, written, written, damaged(random, written), written.decode().encode("utf-16"),
            b"\xef\xbb\xbf" + written, b"[" * 100_000, b'{"images":' * 50_000, b'{"images": ["\\ud800"]}',
            b'{"\\ud800": 1, "images": ["AAAA"]}', b'{"images": ["\xed\xa0\x80"]}', b'{"images": NaN}',
            b'{"images": [1e999999]}', b'{"images": [' + b"9" * 10_000 + b"]}", b'{"images": [-Infinity]}',
            b'{"images": [], "images": ["' + encoded.encode() + b'"]}', b"", b"null", b'"', b"\0" * 50,
            b'{"a\\nb": 1, "images": ["AAAA"]}', b'{"' + b"k" * 5000 + b'": 1, "images": ["AAAA"]}',
            b'{"images": ["' + b"A" * 100_000 + b'"]}',
        )
    )  # fmt: skip
    kind = random.choice(
        (b"application/json",) * 4 + (b"application/json; charset=utf-99", b"APPLICATION/JSON", b"a/b")
    )
    return Sent(query=query(random), headers=[(b"content-type", kind)], body=body)


def odd_headers(random: Random) -> list[tuple[bytes, bytes]]:
    names = (
        b"content-length", b"content-type", b"transfer-encoding", b"accept", b"range", b"if-none-match", b"host",
        b"if-modified-since", b"authorization", b"x-api-key", b"cookie", b"expect", b"origin", b"x-forwarded-for",
        b"content-encoding", b"upgrade",
    )  # fmt: skip
    values = (
        b"", b"0", b"-1", b"9" * 5000, b"1e3", b"\xb2", b"abc", b"\xff\xfe", b"bytes=0-", b"bytes=-1", b"bytes=9-1",
        b"bytes=" + b"0-1," * 500, b"gzip", b"*/*", b"Bearer \xff", b"websocket", b"a" * 9000, b"application/json",
        b"Mon, 99 Foo 9999 99:99:99 GMT", b"multipart/form-data; boundary=x",
    )  # fmt: skip
    names += (b"content-length",) * 4
    return [(random.choice(names), random.choice(values)) for _ in range(random.randrange(4))]


def anything(random: Random) -> Sent:
    """Any method, path, query and headers."""
    path = random.choice((*PATHS, *PATHS, "/v1/" + text(random), "/static/" + text(random), text(random) or "/",
                          "/static/../../../../etc/passwd", "/static//etc/passwd", "/static/\0", "/static/" + "a" * 999,
                          "/v1/predict/", "//v1//predict", "/docs/static/\0", "/v1/model/\ud800"))  # fmt: skip
    headers = odd_headers(random)
    body = random.choice((b"", b"", random.randbytes(50), b'{"images": []}', image(random)))
    if random.random() < 0.3:
        return Sent("POST", "/v1/predict", query(random), headers, body)
    return Sent(random.choice(METHODS), path, query(random), headers, body)


def request(seed: int) -> Sent:
    """The request of a seed, always the same."""
    random = Random(seed)
    return random.choices((well_formed, multipart, in_json, anything), (6, 4, 3, 3))[0](random)
