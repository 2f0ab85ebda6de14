"""What tracking costs a training, with a store that answers and with servers that do not.

    python -m benchmarks.cpu.tracking [--images 20000] [--epochs 20] [--rounds 3]

Conditions: `darkroom train` on the CNN of training_cnn at batch 64, fp32. The share of tracking is what the run itself
has measured and logged: seconds that the training waited for it, and the processor's seconds of its thread, importing
MLflow included, over those of the training. Nothing is imported or sent within the first minute: a training must be
longer for its epochs to run beside that. The whole command ends with logging the model, or with waiting half a minute
at most for a server that hangs.

- SQLite: the default store, which an earlier command has made
- SQLite, new: the same, made by this training's thread
- server away: nothing listens at the address
- server hangs: it takes connections and never answers
"""

import contextlib
import json
import os
import socket
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from benchmarks import images, project, training, ways
from benchmarks.harness import Benchmark, Figures, Job, run

STORES = ("SQLite", "SQLite, new", "server away", "server hangs")


@contextlib.contextmanager
def store(kind: str) -> Iterator[dict[str, str]]:
    """The environment in which the command finds such a store."""
    if kind.startswith("SQLite"):
        yield {}
        return
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{listening.getsockname()[1]}"}
        if kind == "server away":
            listening.close()
        yield address


def train(kind: str) -> Job:
    def job(options: Namespace) -> Figures:
        pictures, labels = images.read(options.images + ways.VALIDATION)
        from darkroom.training import fit

        changes = {
            "dataset.name": "fashion-mnist",
            "model.name": "simple-cnn",
            "train.epochs": options.epochs,
            "train.precision": "fp32",
            "train.device": "cpu",
            "search.trials": 0,
        }
        with tempfile.TemporaryDirectory(dir=".") as place, contextlib.chdir(place), store(kind) as address:
            project.write_params(changes)
            project.prepare(pictures, labels, ways.VALIDATION)
            if kind == "SQLite":
                project.make_store()
            with patch.dict(os.environ, address), project.timed(fit, "fit") as seconds:
                start = time.perf_counter()
                project.darkroom("train")
                command = time.perf_counter() - start
            metrics = json.loads(Path("reports/train/metrics.json").read_text(encoding="utf-8"))
        return {
            training.SPEED: options.epochs * options.images / sum(seconds),
            "%, share of tracking": 100 * metrics["tracking_share"],
            "s, whole command": command,
        }

    return job


def main() -> None:
    parser = training.arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    jobs = {("", kind): train(kind) for kind in STORES}
    goals = [{"case": "", "name": kind, "unit": "%, share of tracking", "at_most": 3} for kind in STORES]
    goals += [{"case": "", "ratio": [kind, "SQLite"], "at_least": 0.97} for kind in ("server away", "server hangs")]
    conditions = training.conditions(options) | {"epochs": options.epochs}
    run(
        Benchmark("What tracking costs a training", jobs, conditions, baselines=["SQLite"], goals=goals),
        options,
    )


if __name__ == "__main__":
    main()
