"""Servers of a registered model, and clients that ask them, each again as soon as it is answered.

The clients write ready-made requests to plain sockets: on a machine with few cores a client library would take the
time that is to be measured.
"""

import asyncio
import itertools
import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import images, project
from benchmarks.harness import NotHere

TRAIN_IMAGES = 2000
VALIDATION_IMAGES = 500
NAME = "darkroom-fashion-mnist"
HOST = "127.0.0.1"
START_SECONDS = 180
# Requests of every client before any counts: connections are made, kernels chosen.
WARM_UP = 20


@dataclass(frozen=True)
class Answer:
    """When a request was sent and answered, in seconds of one clock, with its status and body."""

    sent: float
    received: float
    status: int
    body: bytes

    @property
    def ms(self) -> float:
        return 1000 * (self.received - self.sent)


def register_models(*seeds: int, serve: Mapping[str, Any] | None = None) -> None:
    """Train, evaluate and register the default CNN with each seed, in the working directory; the first is champion."""
    pixels, labels = images.read(TRAIN_IMAGES)
    settings = {"dataset.name": "fashion-mnist", "search.trials": 0, "train.epochs": 1, **(serve or {})}
    for number, seed in enumerate(seeds):
        project.write_params(settings | {"train.seed": seed})
        if number == 0:
            project.prepare(pixels, labels, VALIDATION_IMAGES)
            project.make_store()
        for stage in ("train", "evaluate", "register"):
            project.darkroom(stage)


@contextmanager
def darkroom_serve() -> Iterator[tuple[int, int]]:
    """`darkroom serve` of the project in the working directory: its port and process."""
    port = _free_port()
    command = [sys.executable, "-m", "darkroom", "serve", "--port", str(port)]
    with _running(command, port, "/readyz") as process:
        yield port, process.pid


@contextmanager
def mlflow_serve() -> Iterator[tuple[int, int]]:
    """`mlflow models serve` of the same champion: its port and process."""
    port, program = _free_port(), shutil.which("mlflow")
    assert program, "mlflow is not on the PATH"
    command = [program, "models", "serve", "--model-uri", f"models:/{NAME}@champion", "--env-manager", "local"]
    with _running([*command, "--host", HOST, "--port", str(port)], port, "/ping") as process:
        yield port, process.pid


@contextmanager
def litserve() -> Iterator[tuple[int, int]]:
    """A server of the same champion written with LitServe: its port and process. Raises NotHere without the library."""
    if find_spec("litserve") is None:
        raise NotHere("litserve is not installed")
    port = _free_port()
    with _running([sys.executable, "-m", "benchmarks.peers.litserve", str(port)], port, "/health") as process:
        yield port, process.pid


def as_file(pixels: np.ndarray, path: str = "/v1/predict") -> bytes:
    """A request to our server, or to another's ``path``: an image uint8 [1, H, W] as a PNG file in a form."""
    from PIL import Image

    written = BytesIO()
    Image.fromarray(pixels[0]).save(written, "PNG")
    head = b'--boundary\r\nContent-Disposition: form-data; name="images"; filename="0.png"\r\n\r\n'
    body = head + written.getvalue() + b"\r\n--boundary--\r\n"
    return _request(path, "multipart/form-data; boundary=boundary", body)


def as_file_for_litserve(pixels: np.ndarray) -> bytes:
    return as_file(pixels, "/predict")


def as_pixels(pixels: np.ndarray) -> bytes:
    """A request to MLflow's server: the pixels as numbers in JSON, the form that it documents for arrays."""
    return _request("/invocations", "application/json", dumps({"inputs": pixels[None].tolist()}).encode())


class Client:
    """A connection that asks ``requests`` one after the other.

    It uses the system's own calls: asyncio's streams take a third more processor time, which a server on the same
    processors would miss.
    """

    def __init__(self, port: int, requests: Iterable[bytes]) -> None:
        self.connection = socket.create_connection((HOST, port))
        self._requests = iter(requests)
        self._received = b""
        self._sent = 0.0

    def send(self) -> None:
        self._sent = time.perf_counter()
        self.connection.sendall(next(self._requests))

    def receive(self) -> Answer | None:
        """Read what is there: the answer, if that was the rest of it."""
        if not (part := self.connection.recv(1 << 16)):
            raise EOFError("the server has ended a connection")
        self._received += part
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return None
        self._received = b""
        return Answer(self._sent, time.perf_counter(), _status(head), body)


def ask(port: int, requests: Sequence[bytes], clients: int, seconds: float, take: Callable[[Answer], None]) -> None:
    """Let ``clients`` ask for ``seconds``, after a warm-up; ``take`` is given every answer that counts."""
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        asking = []
        for number in range(clients):
            own = (requests[turn % len(requests)] for turn in itertools.count(number, clients))
            asking.append(Client(port, own))
            stack.enter_context(asking[-1].connection)
            selector.register(asking[-1].connection, selectors.EVENT_READ, asking[-1])
        for _ in range(WARM_UP):
            _ask(selector, asking, until=0.0, take=lambda answer: None)
        _ask(selector, asking, until=time.perf_counter() + seconds, take=take)


def _ask(
    selector: selectors.BaseSelector, asking: Sequence[Client], until: float, take: Callable[[Answer], None]
) -> None:
    """Let each ask once, and again as soon as it is answered until that time."""
    for client in asking:
        client.send()
    left = len(asking)
    while left:
        for key, _ in selector.select():
            answer = key.data.receive()
            if answer is None:
                continue
            take(answer)
            if answer.received < until:
                key.data.send()
            else:
                left -= 1


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
    sent = time.perf_counter()
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(_length(head))
    return Answer(sent, time.perf_counter(), _status(head), body)


def _length(head: bytes) -> int:
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert length, head
    return int(length[1])


def _status(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


def _request(path: str, content_type: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def _running(command: list[str], port: int, probe: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a process group of its own, from when it answers until the block ends."""
    # MLflow's server starts `uvicorn` by its name.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{Path('mlflow.db').resolve()}", "PATH": path}
    with Path("server.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(process, port, probe)
        yield process
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself; its log tells why
            os.killpg(process.pid, 9)
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, probe: str) -> None:
    request = f"GET {probe} HTTP/1.0\r\n\r\n".encode()
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with socket.create_connection((HOST, port), timeout=5) as connection:
                connection.sendall(request)
                if b" 200 " in connection.recv(64):
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(Path("server.log").read_text(encoding="utf-8", errors="replace"))
