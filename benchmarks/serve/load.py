"""Requests a second and latency of `darkroom serve` beside `mlflow models serve` and LitServe, of the same model.

    python -m benchmarks.serve.load [--seconds 8] [--rounds 3]

Conditions: the default CNN, Fashion-MNIST's images one a request, over loopback; server and clients share the machine.
Each client asks again as soon as it is answered, after 20 requests that do not count. Our server gets PNG files in
multipart forms and answers labels and calibrated probabilities; MLflow's gets pixels as numbers in JSON and answers
logits. Both are as they come: one process, default settings. LitServe, where it is installed, gets the same files and
answers labels and probabilities (see `benchmarks/peers/litserve.py`).
"""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np
from benchmarks import harness, images, served
from benchmarks.harness import Benchmark, Figures, run

CLIENTS = (1, 8, 64)
IMAGES = 256
OURS = "darkroom serve"
MLFLOW = "mlflow models serve"
LITSERVE = "LitServe"
RATE = "requests/s"
P99 = "ms, p99"
WAYS: dict[str, tuple[Callable[[], Any], Callable[[np.ndarray], bytes]]] = {
    OURS: (served.darkroom_serve, served.as_file),
    MLFLOW: (served.mlflow_serve, served.as_pixels),
    LITSERVE: (served.litserve, served.as_file_for_litserve),
}


def load(way: str, clients: int) -> harness.Job:
    server, encode = WAYS[way]

    def job(options: Namespace) -> Figures:
        served.register_models(0)
        requests = [encode(pixels) for pixels in images.read(IMAGES)[0]]
        answers: list[served.Answer] = []
        with server() as (port, _):
            served.ask(port, requests, clients, options.seconds, answers.append)
        assert {answer.status for answer in answers} == {200}, "a request failed"
        seconds = max(answer.received for answer in answers) - min(answer.sent for answer in answers)
        p50, p95, p99 = np.percentile([answer.ms for answer in answers], (50, 95, 99)).tolist()
        return {RATE: len(answers) / seconds, "ms, p50": p50, "ms, p95": p95, P99: p99}

    return job


def main() -> None:
    parser = harness.arguments(__doc__, rounds=3)
    parser.add_argument("--seconds", type=float, default=8, help="of asking, in each measurement")
    options = parser.parse_args()
    jobs = {(_case(clients), way): load(way, clients) for clients in CLIENTS for way in WAYS}
    goals = [
        goal
        for clients in CLIENTS
        for goal in (
            {"case": _case(clients), "ratio": [OURS, MLFLOW], "at_least": 3},
            {"case": _case(clients), "ratio": [OURS, MLFLOW], "unit": P99, "at_most": 0.5},
        )
    ]
    conditions = {"seconds": options.seconds, "data": images.source()}
    benchmark = Benchmark(title="Servers under load", jobs=jobs, conditions=conditions, baselines=[MLFLOW], goals=goals)
    run(benchmark, options)


def _case(clients: int) -> str:
    return f"{clients} client{'s' if clients > 1 else ''}"


if __name__ == "__main__":
    main()
