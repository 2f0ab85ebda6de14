"""How long a thousand tracked trials take, and how much of that is not training.

    python -m benchmarks.search.thousand [--trials 1000] [--rounds 2]

Conditions: `darkroom search` with its default sampler, pruner, workers and fusing, over all that a head has: learning
rate, weight decay, width, dropout, label smoothing, views and mixup. The data are the 1,280 features that an
EfficientNet-B0 with random weights gives of 397 handwritten digits (153 of them to validate), and of seven changed
copies of each: as much as those of a few hundred photographs. Each trial is an Optuna trial and an MLflow run of its
own, in a new SQLite store; none is trained again with other seeds.

"s" are those of the whole command, behind the imports and with the features there, and "CPU s" those of the processors,
of the workers too. Outside training is the time in which a worker is in no round, on average over the workers, as a
share of "s"; a worker's first round, in which its process starts, counts as outside. Tracking is what the search waits
for it and the CPU time of its thread, also as a share of "s".
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
BACKBONE = "efficientnet_b0"
SPACE = {
    "train": {
        "lr": {"low": 3e-4, "high": 3e-2, "log": True},
        "weight_decay": {"low": 1e-5, "high": 1e-1, "log": True},
        "label_smoothing": {"low": 0.0, "high": 0.2},
    },
    "model": {"dropout": {"low": 0.0, "high": 0.5}, "hidden": {"choices": [[], [32], [128]]}},
    "augment": {"views": {"low": 1, "high": 8}, "mixup": {"low": 0.0, "high": 1.0}},
}


def search(options: Namespace) -> Figures:
    import numpy as np
    import torch
    import torchvision
    from safetensors.torch import save_file
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.ones((3, ENLARGED, ENLARGED))
    images = np.kron(digits.images[:IMAGES, None] * (255 / 16), pixels).astype(np.uint8)
    torch.manual_seed(0)
    save_file(torchvision.models.get_model(BACKBONE).state_dict(), "weights.safetensors")
    project.write_params(
        {
            "dataset.name": "fashion-mnist",  # the name of the cache that `prepare` leaves
            "model.name": "pretrained",
            "model.backbone": BACKBONE,
            "model.weights_path": "weights.safetensors",
            "model.input_size": images.shape[-1],
            "augment.translate": 2,
            "train.device": "cpu",
            "search.trials": options.trials,
            "search.epochs": options.epochs,
            "search.finalists": 0,
            "search.space": SPACE,
        }
    )
    project.prepare(images, digits.target[:IMAGES].astype(np.int64), VALIDATION)
    from darkroom.config import load
    from darkroom.data.cache import DatasetCard
    from darkroom.features.head import open_head
    from darkroom.search.executors.processes import ProcessSlot
    from darkroom.search.space import with_all_views
    from darkroom.tracking.tracker import Tracker
    from darkroom.workspace import Workspace

    config, workspace = load(Workspace().params), Workspace()
    card = DatasetCard.read(workspace.processed(config.dataset.name))
    open_head(with_all_views(config), workspace, card, torch.device("cpu"))

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
