"""How many labels a model needs if those that teach most are asked for: `darkroom inbox`'s choice and a random one.

    python -m benchmarks.audit.labels_needed --data DIRECTORY [--rounds 5]

Conditions: Fashion-MNIST. Each round has another seed, and both ways begin with the same model, of the same 1,200
labels, 2 % of the train split, drawn at random. Then, again and again, half as many labels as there are are asked for,
those that the choice names of 15,000 other images, drawn at random, or random ones, and a model is trained from scratch
on all of them, a tenth its validation split. simple-cnn (16 and 32 filters), 8 epochs, one-cycle, one thread.

"labels to 88 %" are those at which the accuracy on the 10,000 test images first reaches 88 %, on the straight line
between two trainings over the logarithm of the labels.
"""

from argparse import Namespace
from collections.abc import Callable
from math import exp, log

import numpy as np
import torch
from benchmarks import audited, images
from benchmarks.harness import Benchmark, Figures, run
from benchmarks.ways import Images, Labels
from numpy.typing import NDArray

FIRST = 1200
GROWTH = 1.5
LOOKED_AT = 15_000
TARGET = 0.88
MOST = 12_000
TEST = 10_000
BATCH = 2000
CASE = "Fashion-MNIST, from 2 % of the labels"
WAY = "darkroom inbox"
RATIO = "share of the labels at random"
UNIT = "labels to 88 %"
SETTINGS = {
    "model": {"name": "simple-cnn", "filters": [16, 32], "hidden": 64},
    "train": {
        "epochs": 8, "batch_size": 64, "lr": 6e-3, "schedule": "one-cycle", "device": "cpu", "precision": "fp32",
    },
}  # fmt: skip

Ints = NDArray[np.int64]
# Which of the unlabeled rows int64 [n] to ask for: probabilities [n, classes], features [n, D], how many, and a draw.
Choose = Callable[[NDArray[np.float32], NDArray[np.float32], int, np.random.Generator], Ints]


def by_choice(
    probabilities: NDArray[np.float32], features: NDArray[np.float32], count: int, generator: np.random.Generator
) -> Ints:
    from darkroom.inbox.picking import pick

    return pick(probabilities, features, count)


def at_random(
    probabilities: NDArray[np.float32], features: NDArray[np.float32], count: int, generator: np.random.Generator
) -> Ints:
    return generator.choice(len(probabilities), count, replace=False)


def train(pictures: Images, labels: Labels, seed: int) -> torch.nn.Module:
    """A model trained on all of these images, the last tenth of which choose its epoch."""
    from darkroom.config import parse
    from darkroom.data.batches import CPU, Split
    from darkroom.data.cache import DatasetCard
    from darkroom.training.fit import train_classifier

    config = parse({**SETTINGS, "train": {**SETTINGS["train"], "seed": seed}}, where="")
    val = len(labels) // 10
    splits = [
        Split(torch.from_numpy(pictures[part]), torch.from_numpy(labels[part]))
        for part in (slice(val, None), slice(None, val))
    ]
    pixels = pictures[val:] / np.float32(255)
    mean, std = (float(pixels.mean()),), (float(pixels.std()),)
    classes = tuple(map(str, range(images.CLASSES)))
    card = DatasetCard("fashion-mnist", classes, (1, 28, 28), mean, std, {}, {}, "")
    return train_classifier(config, card, *splits, CPU)[0]


@torch.no_grad()
def look(model: torch.nn.Module, pictures: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The probabilities and the features of images."""
    from darkroom.models.network import record_features

    with record_features(model) as features:
        found = [
            model(torch.from_numpy(pictures[start : start + BATCH])).softmax(1)
            for start in range(0, len(pictures), BATCH)
        ]
    return torch.cat(found).numpy(), torch.cat(features).float().numpy()


def crossing(counts: list[int], accuracies: list[float]) -> float:
    """The labels at which the accuracy first reaches the target, between the last two trainings."""
    if len(counts) == 1:
        return float(counts[0])
    (a, b), (low, high) = counts[-2:], accuracies[-2:]
    return exp(log(a) + (log(b) - log(a)) * (TARGET - low) / (high - low))


def needed(choose: Choose, first: torch.nn.Module, known: Ints, pictures: Images, labels: Labels, seed: int) -> float:
    """The labels that it takes to reach the target from the ``first`` model, that of the ``known`` rows."""
    generator = np.random.default_rng(seed)
    pool, test = np.arange(len(labels) - TEST), np.arange(len(labels) - TEST, len(labels))
    model, counts, accuracies = first, [], []
    while True:
        counts.append(len(known))
        accuracies.append(float((look(model, pictures[test])[0].argmax(1) == labels[test]).mean()))
        print(f"{choose.__name__}, {counts[-1]} labels: {accuracies[-1]:.4f}", flush=True)
        if accuracies[-1] >= TARGET or len(known) > MOST:
            return crossing(counts, accuracies)
        others = generator.choice(np.setdiff1d(pool, known), LOOKED_AT, replace=False)
        asked = choose(*look(model, pictures[others]), round((GROWTH - 1) * len(known)), generator)
        # Mixed, so that the tenth for validation is one of all labels.
        known = generator.permutation(np.concatenate([known, others[asked]]))
        model = train(pictures[known], labels[known], seed)


def job(options: Namespace) -> Figures:
    torch.set_num_threads(1)
    pictures, labels = images.published(options.data / "fashion-mnist")
    known = np.random.default_rng(options.round).choice(len(labels) - TEST, FIRST, replace=False)
    first = train(pictures[known], labels[known], options.round)
    chosen, drawn = (needed(choose, first, known, pictures, labels, options.round) for choose in (by_choice, at_random))
    return {f"{UNIT}, by choice": chosen, f"{UNIT}, at random": drawn, RATIO: chosen / drawn}


def main() -> None:
    options = audited.arguments(__doc__, ("data",), rounds=5)
    goals = [{"case": CASE, "name": WAY, "unit": RATIO, "at_most": 0.7}]
    conditions = {"first labels": FIRST, "growth": GROWTH, "looked at": LOOKED_AT, "images": 60_000}
    run(Benchmark("Labels needed", {(CASE, WAY): job}, conditions, goals=goals), options)


if __name__ == "__main__":
    main()
