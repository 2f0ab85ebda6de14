"""The images of the day: the product's caches, and the files that airbench reads, from the same pixels."""

import gzip
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarks.gpu.measurements.session import Session
from benchmarks.harness import NotHere
from benchmarks.machine import ROOT

from darkroom.config import Config, load
from darkroom.config.settings import Dataset, Preprocess
from darkroom.data import cache
from darkroom.data.batches import Split, read_split
from darkroom.data.cache import SPLITS, DatasetCard
from darkroom.datasets import splits
from darkroom.datasets.catalog import CATALOG
from darkroom.datasets.source import DecodedDataset

# Preprocessed alike by all recipes for a GPU.
PREPROCESS = Preprocess(val_fraction=0.02)
CIFAR10 = "cifar10-jpeg.tar.xz"
IDX = {
    ("train", "images"): "train-images-idx3-ubyte", ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte", ("test", "labels"): "t10k-labels-idx1-ubyte",
}  # fmt: skip
HEADER_BYTES = {"images": 16, "labels": 8}
SIDE = 28
AIRBENCH_SEED = 0
SMALL_IMAGES = 16


@dataclass(frozen=True)
class Data:
    """A cache, read: the splits are on the CPU."""

    card: DatasetCard
    splits: dict[str, Split]


def prepare(name: str) -> Callable[[Session], None]:
    """Write the cache of MNIST, Fashion-MNIST, or CIFAR-10 as JPEG files, the last also as airbench reads it."""

    def measure(session: Session) -> None:
        decoded = _decode_cifar10(session) if name == "cifar10" else _read_idx(session.data / name)
        session.prepared[name] = _cached(decoded, name, session.place / name)
        if name == "cifar10":
            _write_for_airbench(decoded, session.place / "airbench" / name)

    return measure


def data_of(session: Session, name: str) -> Data:
    if name not in session.prepared:
        raise NotHere(f"{name} could not be prepared")
    found: Data = session.prepared[name]
    return found


def recipe(session: Session, name: str) -> tuple[Config, Data]:
    """The settings of a recipe on the device of the session, and its images."""
    config = load(ROOT / "recipes" / f"{name}.yaml")
    assert config.preprocess == PREPROCESS, f"{name} is preprocessed otherwise"
    changes: dict[str, object] = {"train.device": session.device.type}
    if session.small:
        changes |= {"train.epochs": 1, "train.warmup_epochs": 0, "train.batch_size": SMALL_IMAGES}
    data = data_of(session, config.dataset.name)
    if session.small:
        data = Data(data.card, {name: few(split, SMALL_IMAGES) for name, split in data.splits.items()})
    return config.with_settings(changes), data


def few(split: Split, count: int) -> Split:
    """Up to ``count`` images from all over the split, in memory."""
    count = min(count, len(split))
    rows = torch.arange(count) * len(split) // count
    return Split(split.images[rows], split.labels[rows])


def _read_idx(directory: Path) -> DecodedDataset:
    """The four files of MNIST and its like, as published (.gz) or as they travel (.xz)."""
    images, labels, split = [], [], []
    for name in ("train", "test"):
        pixels = _bytes_of(directory / IDX[name, "images"], HEADER_BYTES["images"])
        images.append(pixels.reshape(-1, 1, SIDE, SIDE))
        labels.append(_bytes_of(directory / IDX[name, "labels"], HEADER_BYTES["labels"]).astype(np.int64))
        split.append(np.full(len(labels[-1]), name, dtype="<U5"))
    return DecodedDataset(np.concatenate(images), np.concatenate(labels), np.concatenate(split), tuple("0123456789"))


def _bytes_of(path: Path, offset: int) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    packed = path.with_suffix(".xz")
    if packed.exists():
        content = lzma.decompress(packed.read_bytes())
    else:
        content = gzip.decompress(path.with_suffix(".gz").read_bytes())
    return np.frombuffer(content, np.uint8, offset=offset)


def _decode_cifar10(session: Session) -> DecodedDataset:
    """As the product decodes a folder of images."""
    source, raw, scratch = CATALOG["folder"], session.place / "raw", session.place / "scratch"
    for directory in (raw, scratch):
        directory.mkdir(parents=True, exist_ok=True)
    source.download(Dataset(name="folder", path=str(session.data / CIFAR10)), raw, _silent)
    return source.decode(raw, PREPROCESS, scratch, _silent)


def _silent(what: str, done: int, total: int) -> None:
    """Progress is of no interest here."""


def _cached(decoded: DecodedDataset, name: str, directory: Path) -> Data:
    directory.mkdir(parents=True, exist_ok=True)
    rows = splits.assign_rows(decoded, PREPROCESS, decoded.digests)
    card = cache.write(
        directory,
        decoded.images,
        decoded.labels,
        rows,
        name=name,
        classes=decoded.classes,
        names=decoded.names,
        settings={"dataset": {"name": name}, "preprocess": PREPROCESS.model_dump(mode="json")},
        digests=decoded.digests,
    )
    return Data(card, {split: read_split(directory, card, split) for split in SPLITS})


def _write_for_airbench(decoded: DecodedDataset, directory: Path) -> None:
    """Its train images in random order: it whitens by the first 5,000, and ours lie class by class."""
    directory.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(AIRBENCH_SEED)
    for split in ("train", "test"):
        rows = torch.from_numpy(np.flatnonzero(decoded.splits == split))
        if split == "train":
            rows = rows[torch.randperm(len(rows), generator=generator)]
        images = torch.from_numpy(np.ascontiguousarray(decoded.images))[rows].permute(0, 2, 3, 1).contiguous()
        labels = torch.from_numpy(decoded.labels)[rows]
        content = {"images": images, "labels": labels, "classes": list(decoded.classes)}
        torch.save(content, directory / f"{split}.pt")
