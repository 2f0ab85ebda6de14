"""Wrong labels among small images: the data audit beside cleanlab.

    python -m benchmarks.audit.wrong_labels --data DIRECTORY --rejected mnist_mturk.json [--rounds 3]

Conditions: all 70,000 images of a dataset, train and test, each judged by a model that has not seen it, in 5 folds.
Each round has another seed, of the folds, the models and the flipped labels.

- Fashion-MNIST: of 10 % of the images, drawn at random, the label is another one, drawn at random. The figure is the
  share of these among the first 10 % of a ranking.
- MNIST: of 5 annotators, fewer than 3 chose the given label of 15 test images. The figure is the place of the last of
  them among the 10,000 test images.

Every method gives logits, and every ranking orders the same logits:

- Darkroom's ranking: that of `darkroom audit`, by the calibrated probability of the given label
- cleanlab's score: get_label_quality_scores with its defaults
- cleanlab's issues: those of find_label_issues with its defaults first, then the others, both by that score

The methods:

- Darkroom: the folds of `darkroom audit` with default settings (simple-cnn)
- tutorial of cleanlab: the network of its tutorial on images, trained for 5 epochs
- logistic regression: scikit-learn's, on the pixels, standardized together, at most 100 iterations

"s" are those from the images in memory to the logits, behind the imports.
"""

import json
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
from benchmarks import audited, images, project
from benchmarks.harness import Benchmark, Figures, Job, Key, run
from benchmarks.machine import peak_memory
from benchmarks.ways import Images, Labels
from numpy.typing import NDArray

FOLDS = 5
TEST = 10_000
VALIDATION = 6_000
FLIPPED = 0.1
# Of five annotators.
MAJORITY = 3

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Way = Callable[[str, Images, Labels, int], tuple[Floats, float]]


def rejected(path: Path) -> Ints:
    """The test images whose given label most annotators did not choose, of the lists in cleanlab/label-errors/mturk."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    return np.array([entry["id"] for entry in entries if entry["mturk"]["given"] < MAJORITY], np.int64)


def flip(labels: Labels, share: float, seed: int) -> tuple[Labels, NDArray[np.bool_]]:
    """The labels with a ``share`` of them, drawn at random, replaced by another class; and which, bool [N]."""
    generator = np.random.default_rng(seed)
    rows = generator.choice(len(labels), round(share * len(labels)), replace=False)
    changed, marks = labels.copy(), np.zeros(len(labels), bool)
    changed[rows] = (labels[rows] + generator.integers(1, images.CLASSES, len(rows))) % images.CLASSES
    marks[rows] = True
    return changed, marks


def precision(ranking: Ints, wrong: NDArray[np.bool_]) -> float:
    """Of as many of the first as there are wrong ones, the share that is wrong, in percent."""
    return 100 * float(wrong[ranking[: wrong.sum()]].mean())


def last_place(ranking: Ints, chosen: Ints, among: Ints) -> int:
    """The place, from 1, of the last of the ``chosen`` images in the ranking of those ``among`` which they are."""
    order = ranking[np.isin(ranking, among)]
    return int(np.flatnonzero(np.isin(order, chosen)).max()) + 1


def darkroom(name: str, pictures: Images, labels: Labels, seed: int) -> tuple[Floats, float]:
    from darkroom import config
    from darkroom.audit.cross_validation import cross_validate
    from darkroom.data.cache import DatasetCard
    from darkroom.workspace import Workspace

    project.write_params({"dataset.name": name, "train.device": "cpu", "train.seed": seed, "audit.folds": FOLDS})
    rows = np.arange(len(labels))
    ends = (len(labels) - TEST - VALIDATION, len(labels) - TEST)
    splits = dict(zip(("train", "val", "test"), np.split(rows, ends), strict=True))
    workspace = Workspace()
    project.write_cache(name, pictures, labels, splits)
    card = DatasetCard.read(workspace.processed(name))
    settings = config.load(Path("params.yaml"))
    start = time.perf_counter()
    found = cross_validate(settings, workspace, card)
    return found.logits.astype(float), time.perf_counter() - start


def tutorial(name: str, pictures: Images, labels: Labels, seed: int) -> tuple[Floats, float]:
    from benchmarks.peers import cleanlab

    start = time.perf_counter()
    return cleanlab.logits(pictures, labels, FOLDS, seed), time.perf_counter() - start


def logistic_regression(name: str, pictures: Images, labels: Labels, seed: int) -> tuple[Floats, float]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    warnings.simplefilter("ignore", ConvergenceWarning)
    start = time.perf_counter()
    pixels = pictures.reshape(len(pictures), -1).astype(np.float32)
    pixels = (pixels - pixels.mean()) / pixels.std()
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    found = cross_val_predict(LogisticRegression(max_iter=100), pixels, labels, cv=folds, method="decision_function")
    return found.astype(float), time.perf_counter() - start


def rankings(logits: Floats, labels: Labels) -> dict[str, Ints]:
    from benchmarks.peers import cleanlab
    from scipy.special import softmax

    from darkroom.audit.labels import judge_labels

    return {
        "Darkroom's ranking": judge_labels(logits, labels).ranking,
        **cleanlab.rankings(softmax(logits, axis=1), labels),
    }


WAYS: dict[str, Way] = {
    "Darkroom": darkroom,
    "tutorial of cleanlab": tutorial,
    "logistic regression": logistic_regression,
}
FASHION = "Fashion-MNIST, 10 % of the labels flipped"
MNIST = "MNIST, 15 rejected test labels"
PRECISION = "precision by {}, %"
PLACE = "last place by {}"


def flipped_job(way: Way) -> Job:
    def job(options: Namespace) -> Figures:
        pictures, labels = images.published(options.data / "fashion-mnist")
        given, wrong = flip(labels, FLIPPED, options.round)
        logits, seconds = way("fashion-mnist", pictures, given, options.round)
        orders = rankings(logits, given)
        found = {PRECISION.format(name): precision(order, wrong) for name, order in orders.items()}
        return {**found, "s": seconds, "MiB, peak": peak_memory(with_children=True)}

    return job


def rejected_job(way: Way) -> Job:
    def job(options: Namespace) -> Figures:
        pictures, labels = images.published(options.data / "mnist")
        logits, seconds = way("mnist", pictures, labels, options.round)
        test = np.arange(len(labels) - TEST, len(labels))
        chosen = test[rejected(options.rejected)]
        found = {
            PLACE.format(name): last_place(order, chosen, test) for name, order in rankings(logits, labels).items()
        }
        return {**found, "s": seconds, "MiB, peak": peak_memory(with_children=True)}

    return job


def main() -> None:
    options = audited.arguments(__doc__, ("data", "rejected"), rounds=3)
    jobs: dict[Key, Job] = {(FASHION, name): flipped_job(way) for name, way in WAYS.items()}
    jobs |= {(MNIST, name): rejected_job(way) for name, way in WAYS.items()}
    own = "Darkroom's ranking"
    goals = [
        {"case": FASHION, "name": "Darkroom", "unit": PRECISION.format(own), "at_least": 90},
        {"case": FASHION, "name": "Darkroom", "unit": "s", "at_most": 600},
        {"case": MNIST, "name": "Darkroom", "unit": PLACE.format(own), "at_most": 60},
        {"case": MNIST, "name": "Darkroom", "unit": "s", "at_most": 600},
    ]
    conditions = {"images": 70_000, "folds": FOLDS}
    run(Benchmark("Wrong labels", jobs, conditions, goals=goals), options)


if __name__ == "__main__":
    main()
