"""What prediction sets hold on Fashion-MNIST, of models that were chosen by the images that fit the sets.

    python -m benchmarks.prediction_sets --data DIRECTORY [--validation 6000] [--seeds 5]

Conditions: the published test split of 10,000 images; of the others, 10,000 to train on and some for validation, drawn
by the seed. The mlp with default settings, but at most 10 epochs and a patience of 3, on a CPU: validation chooses the
epoch, the temperature and the thresholds. What that costs shows on 10,000 images of the published train split that took
no part in anything; the test split differs from them. "Fresh" are thresholds of as many test images instead, measured
on the other ones, the mean of 5 draws. "Random" are the sets of the method with random numbers instead of ranks. The
first 2,000 test images of MNIST are pictures of no class.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from benchmarks.images import CLASSES, published
from benchmarks.ways import Images, Labels
from numpy.typing import NDArray

from darkroom.config import parse
from darkroom.config.settings import Serve
from darkroom.data.batches import CPU, Split
from darkroom.data.cache import DatasetCard
from darkroom.evaluation.logits import predict_logits
from darkroom.evaluation.metrics import Floats
from darkroom.evaluation.prediction_sets import Members, score_labels
from darkroom.evaluation.reference import Reference, calibrated, energies, fit_reference
from darkroom.training.fit import train_classifier

TEST = 10_000
TRAIN = 10_000
DRAWS = 5
FOREIGN = 2_000
NAMES = tuple(map(str, range(CLASSES)))


def logits_of(pictures: Images, labels: Labels, foreign: Images, validation: int, seed: int) -> list[NDArray[Any]]:
    """A model's logits for its validation split, the test split, ``foreign`` and unused images.

    And the labels of the first and the last.
    """
    order = np.random.default_rng(seed).permutation(len(labels) - TEST)
    rest = order[validation : validation + TEST]
    rows = (order[-TRAIN:], order[:validation], np.arange(len(labels) - TEST, len(labels)))
    train, val, test = (Split(torch.from_numpy(pictures[part]), torch.from_numpy(labels[part])) for part in rows)
    pixels = pictures[rows[0]] / np.float32(255)
    card = DatasetCard("fashion-mnist", NAMES, (1, 28, 28), (float(pixels.mean()),), (float(pixels.std()),), {}, {}, "")
    config = parse(
        {
            "model": {"name": "mlp"},
            "train": {"epochs": 10, "patience": 3, "device": "cpu", "precision": "fp32", "seed": seed},
        },
        where="",
    )
    classifier = train_classifier(config, card, train, val, CPU)[0].eval()
    others = Split(torch.from_numpy(foreign), torch.zeros(len(foreign), dtype=torch.int64))
    unused = Split(torch.from_numpy(pictures[rest]), torch.from_numpy(labels[rest]))
    logits = (predict_logits(classifier, split, 500).numpy() for split in (val, test, others, unused))
    return [*logits, labels[rows[1]], labels[rest]]


def members_of(reference: Reference, logits: Floats, **settings: object) -> Members:
    sets = reference.prediction_sets(Serve(**settings), NAMES, print)
    assert sets
    return sets.of(calibrated(logits, reference.temperature), energies(logits))


def random_sets(val: Floats, val_labels: Labels, logits: Floats) -> Members:
    """The sets of the method as it was published, of the default coverage."""
    reference, generator = fit_reference(val, val_labels), np.random.default_rng(0)
    known, new = (
        score_labels(calibrated(each, reference.temperature), generator.random(len(each))) for each in (val, logits)
    )
    own = np.sort(known[np.arange(len(val)), val_labels])
    found: Members = new >= own[int((len(own) + 1) * (1 - Serve().coverage)) - 1]
    return found


def fresh_coverage(logits: Floats, labels: Labels, images: int) -> float:
    """The coverage of thresholds of as many ``images``, which chose nothing."""
    found = []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(labels))
        own, other = order[:images], order[images:]
        members = members_of(fit_reference(logits[own], labels[own]), logits[other])
        found.append(members[np.arange(len(other)), labels[other]].mean())
    return float(np.mean(found))


def figures(reference: Reference, logits: Floats, labels: Labels, foreign: Floats) -> dict[str, float]:
    rows = np.arange(len(labels))
    members, strange = members_of(reference, logits), members_of(reference, foreign)
    covered, sizes = members[rows, labels], members.sum(axis=1)
    per_class = members_of(reference, logits, coverage_per_class=True)[rows, labels]
    confidence = calibrated(logits, reference.temperature).max(axis=1)
    by_class = [[each[labels == label].mean() for label in range(CLASSES)] for each in (covered, per_class)]
    return {
        "accuracy": float((logits.argmax(axis=1) == labels).mean()),
        "coverage": float(covered.mean()),
        "labels": float(sizes.mean()),
        "one label": float((sizes == 1).mean()),
        "no label": float((sizes == 0).mean()),
        "coverage of the hardest fifth": float(covered[confidence <= np.quantile(confidence, 0.2)].mean()),
        "lowest of a class": float(min(by_class[0])),
        "lowest of a class, per class": float(min(by_class[1])),
        "MNIST, one label": float((strange.sum(axis=1) == 1).mean()),
        "MNIST, no label": float((strange.sum(axis=1) == 0).mean()),
    }


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="fashion-mnist/ and mnist/, as published")
    parser.add_argument("--validation", type=int, default=6_000, help="images")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    pictures, labels = published(options.data / "fashion-mnist")
    foreign = published(options.data / "mnist")[0][-TEST:][:FOREIGN]
    test_labels = labels[-TEST:]
    found: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        val, test, others, unused, val_labels, unused_labels = logits_of(
            pictures, labels, foreign, options.validation, seed
        )
        reference = fit_reference(val, val_labels)
        told = figures(reference, test, test_labels, others)
        members = members_of(reference, unused)
        told["coverage of unused images"] = float(members[np.arange(TEST), unused_labels].mean())
        members = random_sets(val, val_labels, test)
        told["random: coverage"] = float(members[np.arange(TEST), test_labels].mean())
        told["random: labels"] = float(members.sum(axis=1).mean())
        told["random: no label"] = float((~members.any(axis=1)).mean())
        told["fresh coverage"] = fresh_coverage(test, test_labels, options.validation)
        print(f"{options.validation:,} images, seed {seed}: {told}", flush=True)
        for name, value in told.items():
            found.setdefault(name, []).append(value)
    for name, values in found.items():
        print(f"| {options.validation:,} | {name} | {mean(values):.4f} ± {stdev(values):.4f} |", flush=True)


if __name__ == "__main__":
    main()
