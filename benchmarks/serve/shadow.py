"""What a challenger on live traffic costs those who ask the champion, and whether a bad one fails a request.

    python -m benchmarks.serve.shadow [--seconds 4] [--turns 10]

Conditions: as in `load.py`. Two servers of the same registry run all the time, one with `serve.shadow: 0` and one with
0.1; both have loaded the challenger, another training of the champion's architecture. The clients ask them in turn,
every second time in reverse, and each turn gives a ratio. Then a third server has `serve.shadow: 1`, and the alias
`challenger` moves every two seconds: to one of two versions, to one without files, to one whose file is damaged, or to
none.
"""

import json
import time
import urllib.request
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from benchmarks import harness, images, project, served
from benchmarks.harness import Benchmark, Figures, run

CLIENTS = (1, 8, 64)
IMAGES = 256
WAY = "serve.shadow"
MOVE_SECONDS = 2.0
FAILED = "failed, of changing challengers"


def job(options: Namespace) -> Figures:
    served.register_models(0, 1, 2)
    requests = [served.as_file(pixels) for pixels in images.read(IMAGES)[0]]
    found: dict[str, float | list[float]] = {}
    with served.darkroom_serve() as (without, _):
        _change({"serve.shadow": 0.1})
        with served.darkroom_serve() as (within, _):
            for port in (without, within):
                _wait_for_challenger(port)
            for clients in CLIENTS:
                found |= _beside(without, within, requests, clients, options)
    _change({"serve.shadow": 1.0, "serve.follow_seconds": 0.5})
    with served.darkroom_serve() as (port, _):
        found |= _changing(port, requests, options)
    return found


def _beside(without: int, within: int, requests: Sequence[bytes], clients: int, options: Namespace) -> Figures:
    before = _get(within, "/v1/shadow")
    times: dict[int, list[float]] = {without: [], within: []}
    for number in range(options.turns):
        for port in (without, within) if number % 2 == 0 else (within, without):
            answers: list[served.Answer] = []
            served.ask(port, requests, clients, options.seconds, answers.append)
            assert {answer.status for answer in answers} == {200}, "a request failed"
            times[port].append(float(np.percentile([answer.ms for answer in answers], 99)))
    after, case = _get(within, "/v1/shadow"), _case(clients)
    return {
        _ratio(clients): np.divide(times[within], times[without]).tolist(),
        f"ms, p99 without, {case}": times[without],
        f"ms, p99 with, {case}": times[within],
        f"images/s of the challenger, {case}": (after["images"] - before["images"]) / (options.turns * options.seconds),
    }


def _changing(port: int, requests: Sequence[bytes], options: Namespace) -> Figures:
    statuses: Counter[int] = Counter()
    moves: list[str | None] = []
    has_ended = Event()

    def take(answer: served.Answer) -> None:
        statuses[answer.status] += 1

    moving = Thread(target=_move, args=(moves.append, has_ended))
    moving.start()
    try:
        served.ask(port, requests, 8, 2 * options.turns * options.seconds, take)
    finally:
        has_ended.set()
        moving.join()
    with urllib.request.urlopen(f"http://{served.HOST}:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    counted = [line.rsplit(" ", 1) for line in lines if line.startswith("darkroom_shadow_images_total")]
    return {
        "requests": sum(statuses.values()),
        FAILED: sum(count for status, count in statuses.items() if status != 200),
        "changes": len(moves),
        "images that a changing challenger answered": sum(float(count) for _, count in counted),
    }


def _move(note: Callable[[str | None], None], has_ended: Event) -> None:
    """Move the alias until the event is set."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{Path('mlflow.db').resolve()}")
    second = client.get_model_version(served.NAME, "2")
    source = str(second.source)
    nowhere = client.create_model_version(served.NAME, "file:///nowhere", second.run_id, tags=second.tags)
    damaged = client.create_model_version(
        served.NAME,
        source,
        second.run_id,
        tags=second.tags | {"darkroom.model_sha256": "0" * 64},
        model_id=source.removeprefix("models:/"),
    )
    versions = ["2", str(nowhere.version), "3", str(damaged.version), None]
    while not has_ended.wait(MOVE_SECONDS):
        version = versions[0]
        versions = [*versions[1:], version]
        if version is None:
            client.delete_registered_model_alias(served.NAME, "challenger")
        else:
            client.set_registered_model_alias(served.NAME, "challenger", version)
        note(version)


def _change(settings: dict[str, Any]) -> None:
    project.write_params(settings, source=Path("params.yaml"))


def _wait_for_challenger(port: int) -> None:
    until = time.monotonic() + served.START_SECONDS
    while _get(port, "/v1/model")["challenger"] is None:
        assert time.monotonic() < until, "the challenger was not loaded"
        time.sleep(0.2)


def _get(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://{served.HOST}:{port}{path}") as answer:
        return json.load(answer)


def _case(clients: int) -> str:
    return f"{clients} client{'s' if clients > 1 else ''}"


def _ratio(clients: int) -> str:
    return f"p99 with / without, {_case(clients)}"


def main() -> None:
    parser = harness.arguments(__doc__, rounds=1)
    parser.add_argument("--seconds", type=float, default=4, help="of asking each server, in each turn")
    parser.add_argument("--turns", type=int, default=10)
    options = parser.parse_args()
    goals: list[dict[str, Any]] = [
        {"case": "", "name": WAY, "unit": _ratio(clients), "at_most": 1.1} for clients in CLIENTS
    ]
    goals.append({"case": "", "name": WAY, "unit": FAILED, "at_most": 0})
    conditions = {"seconds": options.seconds, "turns": options.turns, "data": images.source()}
    run(
        Benchmark(title="A challenger on live traffic", jobs={("", WAY): job}, conditions=conditions, goals=goals),
        options,
    )


if __name__ == "__main__":
    main()
