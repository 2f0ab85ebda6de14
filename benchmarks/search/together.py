"""How many epochs of trials a second a search trains: one after another, fused, in worker processes, and both.

    python -m benchmarks.search.together [--images 20000] [--trials 16] [--rounds 2]

Conditions: `darkroom search`, without what follows the trials, on Fashion-MNIST (or images made up where it is not at
hand) and a new MLflow store. The trials are the same for all ways: drawn at random from learning rate, weight decay,
dropout and label smoothing, at batch size 64, none pruned, none repeated. Each has one epoch of the convolutional
network, or eight of the dense one. The seconds are those from the first trial asked for to the last one told, so that
starting the worker processes is in them. "one after another" has all threads; a worker has one core.
"""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from benchmarks import harness, images, project
from benchmarks.harness import Benchmark, Figures, Job, Key, NotHere, run
from benchmarks.ways import VALIDATION

SPACE = {
    "train": {
        "lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "weight_decay": {"low": 1e-3, "high": 1e-1, "log": True},
        "label_smoothing": {"low": 0.0, "high": 0.2},
    },
    "model": {"dropout": {"low": 0.0, "high": 0.5}},
}
ONE = "one after another"
EPOCHS = {"mlp": 8, "simple-cnn": 1}


def search(model: str, device: str, precision: str, settings: Mapping[str, Any]) -> Job:
    def job(options: Namespace) -> Figures:
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise NotHere("there is no CUDA GPU on this machine")
        pictures, labels = images.read(options.images + VALIDATION)
        project.write_params(
            {
                "dataset.name": "fashion-mnist",
                "model.name": model,
                "train.device": device,
                "train.precision": precision,
                "search.trials": options.trials,
                "search.epochs": EPOCHS[model],
                "search.sampler": "random",
                "search.pruner": "none",
                "search.finalists": 0,
                "search.space": SPACE,
                **{f"search.{key}": value for key, value in settings.items()},
            }
        )
        project.prepare(pictures, labels, VALIDATION)
        from darkroom.search.scheduler import TrialScheduler

        with project.timed(TrialScheduler, "run") as seconds:
            project.darkroom("search")
        rate = options.trials * EPOCHS[model] / sum(seconds)
        return {"trial-epochs/s": rate, "images/s": options.images * rate}

    return job


def ways(workers: int) -> dict[str, dict[str, Any]]:
    processes = {"workers": workers}
    return {
        ONE: {"workers": 1, "fuse": "off"},
        f"{workers} workers": {**processes, "fuse": "off"},
        **{f"fused, K = {count}": {"workers": 1, "fuse": count} for count in (4, 8, 16)},
        **{f"{workers} workers, fused, K = {count}": {**processes, "fuse": count} for count in (4, 8)},
        "auto": {"workers": "auto", "fuse": "auto"},
    }


def jobs(workers: int) -> dict[Key, Job]:
    cases = [
        ("MLP", "mlp", "cpu", "auto"),
        ("MLP, fp32", "mlp", "cpu", "fp32"),
        ("CNN", "simple-cnn", "cpu", "auto"),
        ("MLP on a GPU", "mlp", "cuda", "auto"),
        ("CNN on a GPU", "simple-cnn", "cuda", "auto"),
    ]
    return {
        (case, way): search(model, device, precision, settings)
        for case, model, device, precision in cases
        for way, settings in ways(workers).items()
        # A convolutional network is not fused on a CPU: one size shows why. In fp32 the ends are enough.
        if not (case == "CNN" and "fused" in way and "K = 4" not in way)
        if not (case == "MLP, fp32" and way not in (ONE, "auto"))
        if not (device == "cuda" and "workers" in way)
    }


def main() -> None:
    parser = harness.arguments(__doc__, rounds=2)
    parser.add_argument("--images", type=int, default=20_000, help="training images")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    conditions = {"data": images.source(), "images": options.images, "trials": options.trials, "batch_size": 64}
    best = f"{options.workers} workers"
    goals = [
        {"case": "MLP", "ratio": ["auto", ONE], "at_least": 3},
        {"case": "CNN", "ratio": ["auto", ONE], "at_least": 1.4},
        {"case": "MLP on a GPU", "ratio": ["fused, K = 16", ONE], "at_least": 8},
        {"case": "CNN on a GPU", "ratio": ["fused, K = 16", ONE], "at_least": 4},
    ]
    run(
        Benchmark(
            title="Trials side by side",
            jobs=jobs(options.workers),
            conditions=conditions,
            baselines=[ONE, best],
            goals=goals,
        ),
        options,
    )


if __name__ == "__main__":
    main()
