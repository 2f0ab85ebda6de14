"""What becomes of requests while the champion is swapped again and again.

    python -m benchmarks.serve.swaps [--minutes 10] [--swaps 100]

Conditions: as in `load.py`, with 8 clients that ask without a pause. Two models take turns as champion, by
`darkroom promote --force` (with its gate) and `darkroom rollback`, in another process; the settings are the default
ones, so that the registry is looked at every 2 seconds. An answer is wrong if its version was not champion at any
moment from 4 seconds before the request was sent until it was answered. Memory is the server's resident set, its median
over a tenth of the time.
"""

import json
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import inf
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from threading import Thread

import numpy as np
import psutil
from benchmarks import harness, images, served
from benchmarks.harness import Benchmark, Figures, run

CLIENTS = 8
IMAGES = 256
WAY = "darkroom serve"
MEGABYTE = 1e6
SAMPLE_SECONDS = 1.0
PICK_UP_SECONDS = 4.0


@dataclass(frozen=True)
class Change:
    """``version`` became champion at some moment between two, in seconds of the machine's clock."""

    began: float
    ended: float
    version: str


def job(options: Namespace) -> Figures:
    served.register_models(0, 1)
    requests = [served.as_file(pixels) for pixels in images.read(IMAGES)[0]]
    seconds = 60 * options.minutes
    times: list[tuple[float, float]] = []
    versions: list[str] = []
    statuses: Counter[int] = Counter()

    def take(answer: served.Answer) -> None:
        statuses[answer.status] += 1
        times.append((answer.sent, answer.received))
        versions.append(json.loads(answer.body).get("version", "") if answer.status == 200 else "")

    with served.darkroom_serve() as (port, process), ProcessPoolExecutor(1, get_context("spawn")) as other:
        changing = other.submit(change_champions, options.swaps, seconds)
        memory: list[float] = []
        watching = Thread(target=_watch, args=(psutil.Process(process), memory, seconds), daemon=True)
        watching.start()
        served.ask(port, requests, CLIENTS, seconds, take)
        watching.join()
        changes = changing.result()
    pick_ups = _pick_ups(changes, times, versions)
    tenth = max(1, len(memory) // 10)
    return {
        "swaps": len(changes),
        "requests": len(versions),
        "failed": sum(count for status, count in statuses.items() if status != 200),
        "wrong versions": _wrong(changes, times, versions),
        "s, pick-up": pick_ups,
        "ms, p50": float(np.percentile([1000 * (end - start) for start, end in times], 50)),
        "ms, p99": float(np.percentile([1000 * (end - start) for start, end in times], 99)),
        "MB at first": median(memory[:tenth]),
        "MB at last": median(memory[-tenth:]),
    }


def change_champions(swaps: int, seconds: float) -> list[Change]:
    """Change the champion of the working directory ``swaps`` times, evenly spread over ``seconds``."""
    from darkroom.commands import promote, rollback
    from darkroom.config import load
    from darkroom.workspace import Workspace

    config, workspace, start = load(Path("params.yaml")), Workspace(), time.perf_counter()
    changes = []
    for number in range(swaps):
        time.sleep(max(0.0, start + (number + 0.5) * seconds / (swaps + 1) - time.perf_counter()))
        began, is_forth = time.perf_counter(), number % 2 == 0
        if is_forth:
            promote.run(config, workspace, "2", dry_run=False, force=True, reason="benchmark")
        else:
            rollback.run(config, workspace, "benchmark")
        changes.append(Change(began, time.perf_counter(), "2" if is_forth else "1"))
    return changes


def _watch(process: psutil.Process, memory: list[float], seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        memory.append(process.memory_info().rss / MEGABYTE)
        time.sleep(SAMPLE_SECONDS)


def _pick_ups(changes: Sequence[Change], times: Sequence[tuple[float, float]], versions: Sequence[str]) -> list[float]:
    """Seconds from the end of each change to the first answer of the new champion, if one came before the next."""
    found = []
    for change, until in zip(changes, [*(each.began for each in changes[1:]), inf], strict=True):
        answers = zip(times, versions, strict=True)
        first = [end for (_, end), version in answers if version == change.version and change.began <= end < until]
        found += [max(0.0, first[0] - change.ended)] if first else []
    return found


def _wrong(changes: Sequence[Change], times: Sequence[tuple[float, float]], versions: Sequence[str]) -> int:
    """Answers of a version that was not champion lately; see above."""
    begins, ends = [-inf, *(each.began for each in changes)], [*(each.ended for each in changes), inf]
    reigns = list(zip(["1", *(each.version for each in changes)], begins, ends, strict=True))
    return sum(
        not any(
            own == version and start <= received and end >= sent - PICK_UP_SECONDS for version, start, end in reigns
        )
        for (sent, received), own in zip(times, versions, strict=True)
    )


def main() -> None:
    parser = harness.arguments(__doc__, rounds=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--swaps", type=int, default=100)
    options = parser.parse_args()
    goals = [{"case": "", "name": WAY, "unit": unit, "at_most": 0} for unit in ("failed", "wrong versions")]
    conditions = {"clients": CLIENTS, "minutes": options.minutes, "data": images.source()}
    benchmark = Benchmark(
        title="The champion swapped under load", jobs={("", WAY): job}, conditions=conditions, goals=goals
    )
    run(benchmark, options)


if __name__ == "__main__":
    main()
