"""Whether honest clients are answered for a long time beside hostile ones, and whether the server's memory stays.

    python -m benchmarks.serve.soak [--minutes 10]

Conditions: as in `load.py`, with 64 clients that ask without a pause, of which every tenth is hostile: in turn it sends
a header without an end, a body that stops, bytes that are no request, a form without its end, a picture of 50 million
pixels in a few kilobytes, a damaged picture, more bytes than a request may have, or nothing. A request of an honest
client fails if its answer is not 200 or its connection ends. Memory is the server's resident set, its median over the
second and over the last tenth of the time (the first holds the warm-up).
"""

import asyncio
import itertools
import time
import zlib
from argparse import Namespace
from collections import Counter
from contextlib import suppress
from statistics import median

import numpy as np
import psutil
from benchmarks import harness, images, served
from benchmarks.harness import Benchmark, Figures, run

CLIENTS = 64
HOSTILE = 6
IMAGES = 256
WAY = "darkroom serve"
MEGABYTE = 1e6
SAMPLE_SECONDS = 1.0
# What a hostile client waits for an answer before its next attack.
PATIENCE_SECONDS = 1.0


def job(options: Namespace) -> Figures:
    served.register_models(0)
    requests = [served.as_file(pixels) for pixels in images.read(IMAGES)[0]]
    times: list[float] = []
    failed: Counter[str] = Counter()
    memory: list[float] = []
    with served.darkroom_serve() as (port, process):
        attacked = asyncio.run(
            _soak(port, requests, 60 * options.minutes, times, failed, memory, psutil.Process(process))
        )
    tenth = max(1, len(memory) // 10)
    return {
        "requests": len(times),
        "attacks": attacked,
        "failed": sum(failed.values()),
        "requests/s": len(times) / (60 * options.minutes),
        "ms, p50": float(np.percentile(times, 50)),
        "ms, p99": float(np.percentile(times, 99)),
        "ms, worst": max(times),
        "MB, second tenth": median(memory[tenth : 2 * tenth] or memory),
        "MB, last tenth": median(memory[-tenth:]),
    }


async def _soak(
    port: int,
    requests: list[bytes],
    seconds: float,
    times: list[float],
    failed: Counter[str],
    memory: list[float],
    process: psutil.Process,
) -> int:
    until = time.perf_counter() + seconds
    attacks = itertools.count()

    async def honest(number: int) -> None:
        connection = None
        for turn in itertools.count(number):
            if time.perf_counter() > until:
                break
            try:
                connection = connection or await asyncio.open_connection(served.HOST, port)
                answer = await served.exchange(*connection, requests[turn % len(requests)])
                times.append(answer.ms)
                if answer.status != 200:
                    failed[str(answer.status)] += 1
            except (OSError, EOFError) as problem:
                failed[type(problem).__name__] += 1
                connection = None

    async def hostile() -> None:
        while time.perf_counter() < until:
            attack = ATTACKS[next(attacks) % len(ATTACKS)]
            with suppress(OSError, EOFError, TimeoutError):
                reader, writer = await asyncio.open_connection(served.HOST, port)
                try:
                    writer.write(attack)
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        await writer.drain()
                        await reader.read(1 << 16)
                finally:
                    writer.close()

    async def watch() -> None:
        while time.perf_counter() < until:
            memory.append(process.memory_info().rss / MEGABYTE)
            await asyncio.sleep(SAMPLE_SECONDS)

    honest_clients = [honest(number) for number in range(CLIENTS - HOSTILE)]
    await asyncio.gather(*honest_clients, *[hostile() for _ in range(HOSTILE)], watch())
    return next(attacks)


def _post(body: bytes, length: int | None = None) -> bytes:
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: {served.HOST}\r\nContent-Type: multipart/form-data; boundary=boundary\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


def _form(content: bytes, end: bytes = b"\r\n--boundary--\r\n") -> bytes:
    head = b'--boundary\r\nContent-Disposition: form-data; name="images"; filename="0.png"\r\n\r\n'
    return head + content + end


def _png(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content).to_bytes(4)
        return len(content).to_bytes(4) + kind + content + checksum

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


ATTACKS = (
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000,
    _post(_form(bytes(1_000_000)), length=15_000_000),
    bytes(range(256)) * 64,
    _post(_form(bytes(1000), end=b"")),
    _post(_form(_png(7071, 7071, zlib.compress(bytes(7071 * 7072), 9)))),
    _post(_form(_png(28, 28, b"not compressed"))),
    _post(bytes(1_000_000), length=1 << 40),
    b"",
)


def main() -> None:
    parser = harness.arguments(__doc__, rounds=1)
    parser.add_argument("--minutes", type=float, default=10, help="of asking")
    options = parser.parse_args()
    goals = [{"case": "", "name": WAY, "unit": "failed", "at_most": 0}]
    benchmark = Benchmark(
        title="A server among hostile clients",
        jobs={("", WAY): job},
        conditions={"minutes": options.minutes, "clients": CLIENTS, "hostile": HOSTILE, "data": images.source()},
        goals=goals,
    )
    run(benchmark, options)


if __name__ == "__main__":
    main()
