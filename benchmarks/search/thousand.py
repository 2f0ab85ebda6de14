"""How long a thousand tracked trials take, and how much of that is not training.

    python -m benchmarks.search.thousand [--trials 1000] [--rounds 2]

Conditions: `darkroom search` with its default sampler, pruner, workers and fusing, over learning rate, weight decay,
dropout and label smoothing of an MLP with one hidden layer of 32 units. The data are 397 handwritten digits (153 of
them to validate), enlarged to 1,024 pixels: as much as the features of a few hundred photographs. Each trial is an
Optuna trial and an MLflow run of its own, in a new SQLite store; none is trained again with other seeds.

"s" are those of the whole command, behind the imports, and "CPU s" those of the processors, of the workers too. Outside
training is the time in which a worker is in no round, on average over the workers, as a share of "s"; a worker's first
round, in which its process starts, counts as outside. Tracking is what the search waits for it and the CPU time of its
thread, also as a share of "s".
"""

import resource
import time
from argparse import Namespace
from collections import defaultdict
from concurrent.futures import Future
from functools import partial
from typing import Any
from unittest.mock import patch

from benchmarks import harness, project
from benchmarks.harness import Benchmark, Figures, run

IMAGES = 397
VALIDATION = 153
ENLARGED = 4
SPACE = {
    "train": {
        "lr": {"low": 3e-4, "high": 3e-2, "log": True},
        "weight_decay": {"low": 1e-5, "high": 1e-1, "log": True},
        "label_smoothing": {"low": 0.0, "high": 0.2},
    },
    "model": {"dropout": {"low": 0.0, "high": 0.5}},
}


def search(options: Namespace) -> Figures:
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.ones((1, ENLARGED, ENLARGED))
    images = np.kron(digits.images[:IMAGES, None] * (255 / 16), pixels).astype(np.uint8)
    project.write_params(
        {
            "dataset.name": "fashion-mnist",  # the name of the cache that `prepare` leaves
            "model.name": "mlp",
            "model.hidden": [32],
            "train.device": "cpu",
            "search.trials": options.trials,
            "search.epochs": options.epochs,
            "search.finalists": 0,
            "search.space": SPACE,
        }
    )
    project.prepare(images, digits.target[:IMAGES].astype(np.int64), VALIDATION)
    from darkroom.search.executors.processes import ProcessSlot
    from darkroom.tracking.tracker import Tracker

    rounds: dict[Any, list[float]] = defaultdict(list)
    trackers = []
    submit, enter = ProcessSlot.submit, Tracker.__enter__

    def timed_submit(slot: ProcessSlot, command: Any) -> Future[Any]:
        future, start = submit(slot, command), time.perf_counter()
        future.add_done_callback(partial(_note, rounds[slot], start))
        return future

    def noted_enter(tracker: Tracker) -> Tracker:
        trackers.append(tracker)
        return enter(tracker)

    with patch.object(ProcessSlot, "submit", timed_submit), patch.object(Tracker, "__enter__", noted_enter):
        start, busy = time.perf_counter(), _cpu_seconds()
        project.darkroom("search")
        whole, busy = time.perf_counter() - start, _cpu_seconds() - busy
    if len(rounds) < 2:
        raise RuntimeError("the search had no worker processes; raise --trials")
    training = sum(sum(seconds[1:]) for seconds in rounds.values()) / len(rounds)
    tracking = sum(tracker.seconds for tracker in trackers)
    return {
        "s": whole,
        "CPU s": busy,
        "%, outside training": 100 * (1 - training / whole),
        "%, tracking": 100 * tracking / whole,
    }


def _note(seconds: list[float], start: float, done: Future[Any]) -> None:
    seconds.append(time.perf_counter() - start)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    parser = harness.arguments(__doc__, rounds=2)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=15, help="of each trial")
    options = parser.parse_args()
    conditions = {"trials": options.trials, "epochs": options.epochs, "images": IMAGES - VALIDATION, "batch_size": 64}
    way = "darkroom search"
    goals = [
        {"case": "", "name": way, "unit": "s", "at_most": 120},
        {"case": "", "name": way, "unit": "%, outside training", "at_most": 25},
        {"case": "", "name": way, "unit": "%, tracking", "at_most": 3},
    ]
    run(Benchmark(title="A thousand trials", jobs={("", way): search}, conditions=conditions, goals=goals), options)


if __name__ == "__main__":
    main()
