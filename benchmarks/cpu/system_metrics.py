"""What it costs a run to log how much of the machine is used.

    python -m benchmarks.cpu.system_metrics [--samples 200] [--rounds 3]

Conditions: the processor's time of one thread, which other work on the machine changes least, for one sample of the
processor and the memory, as a share of the ten seconds between two samples. The store is the default one, an SQLite
file, which a run with curves already uses; every second batch of metrics goes to it without the sample.

- sample: read the figures and write them to the spool
- sample and store: the same, and what a batch with an epoch's six metrics and the sample takes longer to be written
  to the store than one with the six alone
- sample and store, alone: the same, with a batch that the store would not have got without the sample
"""

import statistics
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import harness
from benchmarks.harness import Benchmark, Figures, Job, run

if TYPE_CHECKING:
    from darkroom.tracking.spool import Operation
    from darkroom.tracking.store import Store

UNIT = "%, of a processor"
EPOCH = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "train/lr", "train/epoch_seconds")


def metrics(key: str, points: list[list[Any]]) -> "Operation":
    return {"do": "metrics", "run": key, "points": points}


def sampled(samples: int, directory: Path) -> float:
    """Seconds for one sample."""
    from darkroom.tracking.spool import Spool
    from darkroom.tracking.system_metrics import as_points, open_gpus, sample

    spool, gpus = Spool.create(directory, "a store", "an experiment"), open_gpus()
    sample(gpus)
    start = time.thread_time()
    for _ in range(samples):
        spool.append(metrics("a run", as_points(sample(gpus))))
    return (time.thread_time() - start) / samples


def stored(samples: int, store: "Store") -> dict[str, float]:
    """Seconds in which a batch is written: the median for each kind."""
    from darkroom.tracking.system_metrics import as_points, open_gpus, sample

    run, gpus = store.start("a run", "train"), open_gpus()
    found: dict[str, list[float]] = {"epoch": [], "both": [], "sample": []}
    for step in range(1, samples + 1):
        epoch = [[name, 0.5, 0, step] for name in EPOCH]
        use = [[name, value, now, step] for name, value, now, _ in as_points(sample(gpus))]
        for place, (kind, points) in enumerate((("epoch", epoch), ("both", epoch + use), ("sample", use))):
            shifted = [[*point[:3], 3 * step + place] for point in points]
            start = time.thread_time()
            store.apply(metrics(run.key, shifted))
            found[kind].append(time.thread_time() - start)
    return {kind: statistics.median(seconds) for kind, seconds in found.items()}


def measured(way: str) -> Job:
    def job(options: Namespace) -> Figures:
        from darkroom.tracking.store import Store
        from darkroom.tracking.system_metrics import INTERVAL_SECONDS
        from darkroom.tracking.tracking_uri import sqlite_uri

        with tempfile.TemporaryDirectory() as place:
            seconds = sampled(options.samples, Path(place))
            if way != "sample":
                found = stored(options.samples, Store.connect(sqlite_uri(Path(place, "mlflow.db")), "an experiment"))
                seconds += found["sample"] if way.endswith("alone") else found["both"] - found["epoch"]
        return {UNIT: 100 * seconds / INTERVAL_SECONDS}

    return job


def main() -> None:
    parser = harness.arguments(__doc__, rounds=3)
    parser.add_argument("--samples", type=int, default=200, help="samples to take")
    options = parser.parse_args()
    ways = ("sample", "sample and store", "sample and store, alone")
    jobs = {("", way): measured(way) for way in ways}
    goals = [{"case": "", "name": way, "unit": UNIT, "at_most": 0.5} for way in ways]
    conditions = {"samples": options.samples, "time": "of the processor, in one thread"}
    run(Benchmark("What the metrics of the system cost a run", jobs, conditions, goals=goals), options)


if __name__ == "__main__":
    main()
