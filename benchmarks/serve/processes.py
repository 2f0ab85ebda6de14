"""Requests a second of `darkroom serve` with two processes, beside one.

    python -m benchmarks.serve.processes [--seconds 4] [--turns 5]

Conditions: as in `load.py`. Two servers of the same champion run all the time, with `serve.processes` 1 and 2. The
clients, on the same machine, ask them in turn, every second time in reverse, and each turn gives a ratio.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks import harness, images, project, served
from benchmarks.harness import Benchmark, Figures, run

CLIENTS = (8, 64)
IMAGES = 256
WAY = "two processes"


def job(options: Namespace) -> Figures:
    served.register_models(0)
    requests = [served.as_file(pixels) for pixels in images.read(IMAGES)[0]]
    found: dict[str, float | list[float]] = {}
    with served.darkroom_serve() as (one, _):
        project.write_params({"serve.processes": 2}, source=Path("params.yaml"))
        with served.darkroom_serve() as (two, _):
            for clients in CLIENTS:
                found |= _beside(one, two, requests, clients, options)
    return found


def _beside(one: int, two: int, requests: Sequence[bytes], clients: int, options: Namespace) -> Figures:
    rates: dict[int, list[float]] = {one: [], two: []}
    for number in range(options.turns):
        for port in (one, two) if number % 2 == 0 else (two, one):
            answers: list[served.Answer] = []
            served.ask(port, requests, clients, options.seconds, answers.append)
            assert {answer.status for answer in answers} == {200}, "a request failed"
            rates[port].append(len(answers) / options.seconds)
    return {
        f"two / one, {clients} clients": np.divide(rates[two], rates[one]).tolist(),
        f"requests/s of one, {clients} clients": rates[one],
        f"requests/s of two, {clients} clients": rates[two],
    }


def main() -> None:
    parser = harness.arguments(__doc__, rounds=1)
    parser.add_argument("--seconds", type=float, default=4, help="of asking each server, in each turn")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    goals = [{"case": "", "name": WAY, "unit": f"two / one, {clients} clients", "at_least": 1.0} for clients in CLIENTS]
    conditions = {"seconds": options.seconds, "turns": options.turns, "data": images.source()}
    run(
        Benchmark(title="A server of two processes", jobs={("", WAY): job}, conditions=conditions, goals=goals), options
    )


if __name__ == "__main__":
    main()
