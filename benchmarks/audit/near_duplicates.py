"""Test images of CIFAR-10 whose picture train has too: Darkroom beside cleanvision, imagededup and plain means.

    python -m benchmarks.audit.near_duplicates --images cifar10-jpeg --labels cifar10_test_set_original_labels.npy
        --judged duplicates_cifar10.csv [--rounds 1]

Conditions: CIFAR-10 as a folder of 60,000 JPEG files of 32x32, and ciFAIR's list of the test images that people judged
to be near-duplicates of train images (judgments 0 and 1). Every way sees the same files, and nothing else.
A test image is flagged if the way calls it a duplicate of a train image. Some of the flagged that are not in the list
are also similar views of one object. "F1, %" weighs the two: 2 x found / (listed + flagged).

"s" are those from the files to the list of duplicates, decoding included, behind the imports of the library. For
Darkroom they are those of `darkroom download` and `darkroom preprocess`, which also copy, split, cache and report; the
search alone stands beside.
"MiB, peak" are those of the largest process, imports included.

- Darkroom: default settings
- cleanvision: its near and exact duplicates with their defaults (equal perceptual hashes), a process for each core
- imagededup PHash: with its default threshold of 10 bits; it compares each image with each, the slowest by far
- imagededup CNN: its default network and threshold; its weights must be in torch's cache
- correlation of pixels: of all three channels, each image standardized
- perceptual hash: signs of the 8x8 lowest frequencies against their median, at most 6 of 64 bits apart. It is the hash
  of cleanvision, and but for one bit that of imagededup, at a threshold between theirs.
"""

import csv
import time
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
from benchmarks import audited, photographs, project
from benchmarks.harness import Benchmark, Figures, Job, NotHere, run
from benchmarks.machine import peak_memory
from numpy.typing import NDArray

NEAR_DUPLICATE = 1  # ciFAIR's judgments: 0 exact duplicate, 1 near-duplicate, 2 very similar
BITS = 64
BLOCK = 2000

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Names = set[str]
# Returns the flagged files of test, and what it took.
Way = Callable[[Namespace], tuple[Names, dict[str, float]]]


def judged(path: Path) -> NDArray[np.int64]:
    """The test images of ciFAIR's list that are exact or near-duplicates, by their numbers in CIFAR's order."""
    with path.open(encoding="utf-8", newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if int(row["Judgment"]) <= NEAR_DUPLICATE]
    return np.unique([int(row["TestID"]) for row in rows])


def names_of(numbers: NDArray[np.int64], labels: NDArray[np.int64], files: list[str]) -> Names:
    """The ``files``, sorted by class and in each class in CIFAR's order, of images ``numbers`` in CIFAR's order."""
    place = np.empty(len(labels), np.int64)
    place[np.argsort(labels, kind="stable")] = np.arange(len(labels))
    return {files[each] for each in place[numbers].tolist()}


def leaked(neighbors: Mapping[str, Collection[str]]) -> Names:
    """The test images that have a train image among their neighbors."""
    return {
        name
        for name, others in neighbors.items()
        if name.startswith("test/") and any(other.startswith("train/") for other in others)
    }


def compared(found: Names, expected: Names) -> dict[str, float]:
    common = len(found & expected)
    return {
        "F1, %": 200 * common / (len(found) + len(expected)),
        f"found of {len(expected)}": common,
        "flagged": len(found),
    }


def darkroom(options: Namespace) -> tuple[Names, dict[str, float]]:
    from darkroom.data.cache import DatasetCard, read_leaked, read_names
    from darkroom.stages import preprocess
    from darkroom.workspace import Workspace

    project.write_params(
        {"dataset.name": "folder", "dataset.path": str(options.images), "preprocess.on_suspect": "warn"}
    )
    with project.timed(preprocess, "find_near_duplicates") as alone:
        start = time.perf_counter()
        project.darkroom("download")
        project.darkroom("preprocess")
        seconds = time.perf_counter() - start
    directory = Workspace().processed("folder")
    marks = read_leaked(directory, "test", DatasetCard.read(directory).sizes["test"])
    names = np.array(read_names(directory, "test"))
    return set(names[marks].tolist()), {"s": seconds, "s, search alone": sum(alone)}


def cleanvision(options: Namespace) -> tuple[Names, dict[str, float]]:
    from cleanvision import Imagelab

    start = time.perf_counter()
    lab = Imagelab(data_path=str(options.images), verbose=False)
    kinds = ("exact_duplicates", "near_duplicates")
    lab.find_issues({kind: {} for kind in kinds}, verbose=False)
    seconds = time.perf_counter() - start
    groups = [
        [Path(name).relative_to(options.images).as_posix() for name in group]
        for kind in kinds
        for group in lab.info[kind]["sets"]
    ]
    return leaked({name: group for group in groups for name in group}), {"s": seconds}


def imagededup_hash(options: Namespace) -> tuple[Names, dict[str, float]]:
    from imagededup.methods import PHash

    start = time.perf_counter()
    found = PHash(verbose=False).find_duplicates(image_dir=options.images, recursive=True)
    return leaked(found), {"s": time.perf_counter() - start}


def imagededup_network(options: Namespace) -> tuple[Names, dict[str, float]]:
    import torch
    from imagededup.methods import CNN
    from torchvision.models import MobileNet_V3_Small_Weights

    weights = Path(MobileNet_V3_Small_Weights.IMAGENET1K_V1.url).name
    if not (Path(torch.hub.get_dir()) / "checkpoints" / weights).exists():
        raise NotHere(f"{weights} is not in torch's cache")
    start = time.perf_counter()
    found = CNN(verbose=False).find_duplicates(image_dir=options.images, recursive=True)
    return leaked(found), {"s": time.perf_counter() - start}


def plain(describe: Callable[[Pixels], Floats], least: float) -> Way:
    """Flag the test images that have a train image whose unit vector's product with theirs is at ``least`` this."""

    def way(options: Namespace) -> tuple[Names, dict[str, float]]:
        start = time.perf_counter()
        test, train = (photographs.files(options.images / split)[0] for split in ("test", "train"))
        marks = resembling(describe(_pixels(test)), _blocks(train, describe), least)
        found = {_name(path) for path, is_marked in zip(test, marks, strict=True) if is_marked}
        return found, {"s": time.perf_counter() - start}

    return way


def resembling(test: Floats, train: Iterable[Floats], least: float) -> NDArray[np.bool_]:
    """Which of the unit vectors [N, D] have a product of at ``least`` this with any vector of ``train``."""
    marks = np.zeros(len(test), bool)
    for block in train:
        marks |= (test @ block.T).max(axis=1) >= least
    return marks


def standardized(pixels: Pixels) -> Floats:
    """Images [N, H, W, 3] as vectors whose products are their correlations."""
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def perceptual_hash(pixels: Pixels) -> Floats:
    """Images [N, H, W, 3] as their hash, in vectors whose product is 1 - 2 x different bits / 64."""
    from scipy.fft import dctn

    gray = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    low = dctn(gray, axes=(1, 2))[:, :8, :8].reshape(len(gray), BITS)
    return np.where(low > np.median(low, axis=1, keepdims=True), 1, -1).astype(np.float32) / np.sqrt(BITS)


def _blocks(paths: list[Path], describe: Callable[[Pixels], Floats]) -> Iterable[Floats]:
    for start in range(0, len(paths), BLOCK):
        yield describe(_pixels(paths[start : start + BLOCK]))


def _pixels(paths: list[Path]) -> Pixels:
    return np.stack([np.asarray(image) for image in photographs.opened(paths)])


def _name(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _job(way: Way) -> Job:
    def job(options: Namespace) -> Figures:
        files = [_name(path) for path in photographs.files(options.images / "test")[0]]
        expected = names_of(judged(options.judged), np.load(options.labels), files)
        found, took = way(options)
        return {**compared(found, expected), **took, "MiB, peak": peak_memory(with_children=True)}

    return job


def same_bits(bits: int) -> float:
    """The product of two hashes that differ in ``bits``."""
    return 1 - 2 * bits / BITS


def main() -> None:
    options = audited.arguments(__doc__, ("images", "labels", "judged"), rounds=1)
    ways: dict[str, Way] = {
        "Darkroom": darkroom,
        "cleanvision": cleanvision,
        "imagededup PHash": imagededup_hash,
        "imagededup CNN": imagededup_network,
        "correlation of pixels, at least 0.90": plain(standardized, 0.9),
        "perceptual hash, 6 bits": plain(perceptual_hash, same_bits(6)),
    }
    counts = {split: len(photographs.files(options.images / split)[1]) for split in ("train", "test")}
    found = f"found of {len(judged(options.judged))}"
    goals = [
        {"case": "", "name": "Darkroom", "unit": found, "at_least": 200},
        {"case": "", "name": "Darkroom", "unit": "flagged", "at_most": 500},
        {"case": "", "name": "Darkroom", "unit": "s", "at_most": 60},
    ]
    jobs = {("", name): _job(way) for name, way in ways.items()}
    conditions = {"images": "CIFAR-10 as JPEG files", **counts}
    run(Benchmark("Near-duplicates between train and test", jobs, conditions, goals=goals), options)


if __name__ == "__main__":
    main()
