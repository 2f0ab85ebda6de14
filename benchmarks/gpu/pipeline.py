"""`darkroom search` and `darkroom train` on a GPU from end to end, MLflow and all.

    make gpu-cargo DATA=MIRROR PIPELINE=1
    python -m benchmarks.gpu.pipeline --data build/gpu-cargo-pipeline [--rounds 2]
    python -m benchmarks.gpu.pipeline --data MIRROR --device cpu --epochs 1 --trials 2 --rounds 1 --results build

Conditions: MNIST as it is published, the convolutional network at batch size 512, a new MLflow store in SQLite. The
search tries 16 configurations drawn at random for 3 epochs each, none pruned or trained again, fused as `auto` says;
trials a second are over the whole command, behind the imports. The training has 10 epochs, and the share of tracking
in their seconds is what the run has measured. The last line of usage is for seeing whether it works without a GPU.
"""

import json
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from benchmarks import harness, project
from benchmarks.harness import Benchmark, Figures, Job, NotHere, run
from benchmarks.search.together import SPACE


def _prepare(options: Namespace, **changes: Any) -> None:
    """A project with MNIST in the working directory."""
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise NotHere("there is no CUDA GPU on this machine")
    given = {f"{section}.{key}": value for name, value in changes.items() for section, key in [name.split("__")]}
    project.write_params(
        {
            "dataset.name": "mnist",
            "dataset.mirror": str(options.data),
            "model.name": "simple-cnn",
            "train.batch_size": 512,
            "train.device": options.device,
            **given,
        }
    )
    project.darkroom("download")
    project.darkroom("preprocess")


def search(options: Namespace) -> Figures:
    _prepare(
        options,
        search__trials=options.trials,
        search__epochs=min(3, options.epochs),
        search__sampler="random",
        search__pruner="none",
        search__finalists=0,
        search__space=SPACE,
    )
    from darkroom.search.worker import Worker

    with project.timed(Worker, "advance") as seconds:
        start = time.perf_counter()
        project.darkroom("search")
        whole = time.perf_counter() - start
    return {"trials/s": options.trials / whole, "s": whole, "%, outside training": 100 * (1 - sum(seconds) / whole)}


def train(options: Namespace) -> Figures:
    _prepare(options, search__trials=0, train__epochs=options.epochs)
    project.darkroom("search")  # which is skipped
    start = time.perf_counter()
    project.darkroom("train")
    whole = time.perf_counter() - start
    metrics = json.loads(Path("reports/train/metrics.json").read_text(encoding="utf-8"))
    return {"s": whole, "s, epochs alone": metrics["seconds"], "%, share of tracking": 100 * metrics["tracking_share"]}


def main() -> None:
    parser = harness.arguments(__doc__, rounds=2)
    parser.add_argument("--data", type=lambda path: Path(path).resolve(strict=True), required=True, help="a mirror")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    jobs: dict[harness.Key, Job] = {("", "darkroom search"): search, ("", "darkroom train"): train}
    conditions = {key: getattr(options, key) for key in ("device", "trials", "epochs")}
    run(Benchmark("The pipeline on a GPU", jobs, conditions), options)


if __name__ == "__main__":
    main()
