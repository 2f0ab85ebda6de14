"""Whatever bytes come: never a 500, a refusal is one line of JSON, and the next good request is answered as ever."""

import asyncio
import json
import math
import socket
import struct
from base64 import b64encode
from random import Random

import numpy as np
import pytest
from tests.serving.corruptions import METHODS, PATHS, Sent, image, request
from tests.serving.fakes import brightness, make_loaded, png
from tests.serving.running import running

from darkroom.serving.app import make_app

# To each of two models; the first part is sent in every test run, the others in long ones.
REQUESTS = 5000
PARTS = 10
RAW = 150
RAW_LONG = 400
GOOD = Sent(
    query=b"top_k=2&seen=true",
    headers=[(b"content-type", b"application/json")],
    body=json.dumps({"images": [b64encode(png(shade)).decode() for shade in (0, 255)]}).encode(),
)
# Doubts about damaged images, that decoders have and a server leaves on standard error.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


MODELS = {
    "gray signs": {"shape": (1, 28, 28), "has_layout": True},
    "color": {"shape": (3, 8, 8), "infer": lambda images: brightness(images[:, :1])},
}


@pytest.fixture(params=MODELS)
def app(request, make_service):
    """The application with a model, and with bounds that a damaged header may break and that keep the test short."""
    bounds = {"max_pixels": 250_000, "max_images": 8, "max_request_mb": 1}
    return make_app(make_service(make_loaded(**MODELS[request.param]), **bounds))


async def ask(app, sent):
    """Status, headers and body of the answer. An exception that leaves the application goes through."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": sent.method, "scheme": "http",
        "path": sent.path, "raw_path": sent.path.encode("utf-8", "surrogatepass"), "query_string": sent.query,
        "root_path": "", "headers": sent.headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    body, got = [sent.body[:100], sent.body[100:]], []

    async def receive():
        if not body:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body.pop(0), "more_body": bool(body)}

    async def send(message):
        got.append(message)

    await app(scope, receive, send)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in got[0]["headers"]}
    return got[0]["status"], headers, b"".join(message.get("body", b"") for message in got[1:])


def problem_of(status, headers, body):
    """What is wrong with an answer, None if nothing is."""
    if status >= 500:
        return f"status {status}"
    if status >= 400:
        if headers.get("content-type") != "application/json":
            return f"a refusal that is no JSON: {headers}"
        detail = json.loads(body)["detail"]
        if not isinstance(detail, str) or not detail or not detail.isprintable() or len(detail) > 300:
            return f"a refusal that is not one line: {detail!r:.900}"
    return None


def assert_answers(body):
    for each in json.loads(body)["predictions"]:
        values = each["probabilities"].values()
        assert all(math.isfinite(value) for value in values)
        assert sum(values) == pytest.approx(1)


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.long) for part in range(1, PARTS))])
def test_no_request_brings_the_application_out_of_step(app, part):
    async def ask_all():
        first = await ask(app, GOOD)
        assert first[0] == 200
        statuses = []
        for seed in range(part, REQUESTS, PARTS):
            sent = request(seed)
            try:
                answer = await ask(app, sent)
                if sent.method == "HEAD":
                    assert answer[2] == b""
                problem = problem_of(*answer) if sent.method != "HEAD" else None
                if answer[0] == 200 and (sent.method, sent.path) == ("POST", "/v1/predict"):
                    assert_answers(answer[2])
            except Exception as raised:
                raise AssertionError(f"request({seed}): {type(raised).__name__}: {raised}\n{sent}") from raised
            assert problem is None, f"request({seed}): {problem}\n{sent}"
            statuses.append(answer[0])
        assert (await ask(app, GOOD))[2] == first[2]
        return statuses

    statuses = asyncio.run(ask_all())
    # Damage of every depth: some of it is not noticed, some is refused by the form and some by the decoder.
    counts = [statuses.count(status) for status in (200, 400, 405, 422)]
    assert min(counts) > len(statuses) / 30


# --- over a socket --------------------------------------------------------------------------------------


def exchange(address, content, patience=20.0):
    """What comes back for these bytes. After ``patience`` seconds without any, the server is told that no more come."""
    received = b""
    with socket.create_connection(address, timeout=patience) as connection:
        try:
            connection.sendall(content)
            while part := _receive(connection):
                received += part
        except (ConnectionResetError, BrokenPipeError):
            pass  # the server has refused to read on
    return received


def _receive(connection):
    try:
        return connection.recv(1 << 16)
    except TimeoutError:
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(20)
        return connection.recv(1 << 16)


def written(sent, **changes):
    """A request as bytes, with ``changes`` to its lines."""
    line = changes.get("line", f"{sent.method} {sent.path} HTTP/1.1".encode("utf-8", "replace"))
    headers = [(b"host", b"localhost"), (b"connection", b"close"), *sent.headers, *changes.get("headers", [])]
    if changes.get("length", True):
        headers.append((b"content-length", b"%d" % len(sent.body)))
    return line + b"\r\n" + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n" + sent.body


def raw(seed):
    """Bytes for a socket, from a seed: no HTTP, or broken HTTP, or a request that breaks off."""
    random = Random(seed)
    sent = random.choice((GOOD, request(seed), Sent(random.choice(METHODS), random.choice(PATHS), body=image(random))))
    whole = written(sent)
    return random.choice(
        (
            random.randbytes(random.randrange(300)),
            whole[: random.randrange(len(whole))],
            written(sent, length=False),
            written(sent, headers=[(b"content-length", b"5")]),
            written(sent, headers=[(b"transfer-encoding", b"chunked")]),
            written(sent, length=False, headers=[(b"transfer-encoding", b"chunked")]),
            written(sent, length=False, headers=[(b"content-length", random.choice((b"-1", b"9" * 25, b"x", b"1e3")))]),
            written(sent, headers=[(b"upgrade", b"websocket"), (b"connection", b"upgrade")]),
            written(sent, headers=[(b"x", b"h" * 200_000)]),
            written(sent, headers=[(b"x" * 5, b"y")] * 3000),
            written(sent, headers=[(b"bad name", b"a\rb")]),
            written(sent, headers=[(b"expect", b"100-continue")]),
            written(sent, line=b"POST /v1/predict HTTP/9.9"),
            written(sent, line=b"POST /v1/predict"),
            written(sent, line=b"POST /" + b"a" * 100_000 + b" HTTP/1.1"),
            written(sent, line=b"POST /v1/predict?\xff\xfe HTTP/1.1"),
            written(sent, line=b"GET http://elsewhere/v1/model HTTP/1.1"),
            written(sent, line=b"CONNECT elsewhere:443 HTTP/1.1"),
            written(sent, line=b"PRI * HTTP/2.0"),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random.randbytes(100),
            b"\r\n" * 500 + whole,
            whole.replace(b"\r\n", b"\n"),
            whole * 3,
        )
    )


def test_no_bytes_on_a_socket_bring_the_server_out_of_step(make_service, long):
    count = RAW_LONG if long else RAW
    good = written(GOOD)
    with running(make_service(max_request_mb=1)) as (address, _):
        expected = exchange(address, good).partition(b"\r\n\r\n")[2]
        assert len(json.loads(expected)["predictions"]) == 2
        answered = 0
        for seed in range(count):
            content = raw(seed)
            received = exchange(address, content, patience=0.05)
            answered += bool(received)
            for line in received.split(b"HTTP/1.1 ")[1:]:
                assert line[:1] in b"1234", f"raw({seed}): {line[:300]!r}\n{content[:5000]!r}"
            if seed % 20 == 0:
                assert exchange(address, good).partition(b"\r\n\r\n")[2] == expected, f"after raw({seed})"
        assert exchange(address, good).partition(b"\r\n\r\n")[2] == expected
    assert answered > count / 3


def test_clients_that_go_away_at_once_leave_the_server_as_it_was(make_service):
    good = written(GOOD)
    with running(make_service()) as (address, _):
        expected = exchange(address, good).partition(b"\r\n\r\n")[2]
        for end in np.linspace(1, len(good), 50, dtype=int):
            with socket.create_connection(address, timeout=20) as connection:
                # Closed with a reset instead of an orderly end.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(good[:end])
        assert exchange(address, good).partition(b"\r\n\r\n")[2] == expected
