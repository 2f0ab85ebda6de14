"""The options that the benchmarks of the data audit share: one command line serves both."""

from argparse import ArgumentParser, Namespace
from collections.abc import Collection
from pathlib import Path

from benchmarks import harness

FILES = {
    "images": "CIFAR-10 as JPEG files: train/CLASS/ and test/CLASS/, in each class in CIFAR's order",
    "labels": "the 10,000 test labels in CIFAR's order: of cleanlab/label-errors, "
    "original_test_labels/cifar10_test_set_original_labels.npy",
    "judged": "near-duplicates by people's judgment: of cvjena/cifair, meta/duplicates_cifar10.csv",
    "data": "the published archives of MNIST and Fashion-MNIST, in mnist/ and fashion-mnist/",
    "rejected": "what annotators said of MNIST's test labels: of cleanlab/label-errors, mturk/mnist_mturk.json",
}


def arguments(about: str | None, needed: Collection[str], *, rounds: int) -> Namespace:
    """The options of a benchmark that cannot do without the ``needed`` files."""
    parser: ArgumentParser = harness.arguments(about, rounds=rounds)
    for name, told in FILES.items():
        parser.add_argument(f"--{name}", type=_there, required=name in needed, help=told)
    return parser.parse_args()


def _there(path: str) -> Path:
    return Path(path).resolve(strict=True)
