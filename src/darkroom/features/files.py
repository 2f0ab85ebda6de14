"""The features of a dataset on disk: one safetensors file per split, and a card."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, with_config
from safetensors import SafetensorError, safe_open
from torch import Tensor

from darkroom.data.batches import Split
from darkroom.data.cache import DatasetCard
from darkroom.data.memmap import MappedImages, reserve
from darkroom.data.shards import images_offset, shard_header
from darkroom.errors import CacheError
from darkroom.features.task import head_card
from darkroom.models.class_layer import ClassLayer, combine
from darkroom.utils.files import EXACT, checked, read_as, sha256, write_json

FORMAT_VERSION = 1
CARD = "features.json"
CLASSES = "classes.safetensors"
MADE_BY = "dvc repro"
# Those that trainings and searches see: the test split is for the joined model.
SPLITS: tuple[Literal["train", "val"], ...] = ("train", "val")
# A feature that hardly differs is not enlarged beyond this share of what features usually differ by.
LEAST_DEVIATION = 0.01


@with_config(EXACT)
@dataclass(frozen=True)
class FeaturesCard:
    """The content of features.json.

    ``key`` is the digest of all that the features depend on, ``dataset`` the card of the images. ``mean`` and ``std``
    are those of each feature of the images in the train split, whatever the number of their ``views``, ``parameters``
    the number of those of the body. ``sha256`` are the digests of the files by split, ``computed_by`` names the
    program.
    """

    key: str
    dataset: dict[str, Any]
    views: Annotated[int, Field(ge=1)]
    mean: Annotated[tuple[float, ...], Field(min_length=1)]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    parameters: int
    sha256: dict[Literal["train", "val"], str]
    computed_by: str
    format_version: int = FORMAT_VERSION

    @property
    def dataset_card(self) -> DatasetCard:
        return checked(DatasetCard, self.dataset, "dataset", error=CacheError, made_by=MADE_BY)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Raises CacheError."""
        path = directory / CARD
        card = read_as(cls, path, FORMAT_VERSION, error=CacheError, made_by=MADE_BY)
        if len(card.mean) != len(card.std) or card.sha256.keys() != set(SPLITS):
            raise CacheError(f"{path}: damaged; remove {directory} and run `{MADE_BY}` again")
        checked(DatasetCard, card.dataset, f"{path}: dataset", error=CacheError, made_by=MADE_BY)
        return card


@dataclass(frozen=True)
class Features:
    """The features of two splits, mapped from their files, float32 [N * views, features, 1, 1].

    ``card`` describes them as a dataset; ``dataset`` is that of the images, ``parameters`` those of the body.
    ``computed_by`` names the program. ``classes`` is the layer that tells the classes on which the body was trained, if
    its weights came with one.
    """

    card: DatasetCard
    dataset: DatasetCard
    parameters: int
    computed_by: str
    train: Split
    val: Split
    classes: ClassLayer | None = None

    @cached_property
    def class_head(self) -> ClassLayer:
        """A head for the classes of the images, combined from ``classes``."""
        assert self.classes, "asked for only where there is one"
        return combine(self.classes, self.train.originals, len(self.dataset.classes))


def read_features(directory: Path) -> Features:
    """Raises CacheError if they are missing or damaged."""
    card = FeaturesCard.read(directory)
    dataset = card.dataset_card
    train, val = (_read(directory, card, name) for name in SPLITS)
    return Features(head_card(dataset, card.mean, card.std), dataset, card.parameters, card.computed_by, train, val)


def read_class_layer(directory: Path) -> ClassLayer | None:
    """What the weights know of other classes, beside the features in ``directory``. Raises CacheError if damaged."""
    path = directory / CLASSES
    return ClassLayer.read(path) if path.exists() else None


def is_intact(directory: Path, key: str) -> bool:
    """Whether all files in ``directory`` are those of ``key``, to the last byte. Raises CacheError."""
    card = FeaturesCard.read(directory)
    for name in SPLITS:
        _read(directory, card, name)
    return card.key == key and all(sha256(_file(directory, name)) == card.sha256[name] for name in SPLITS)


def _file(directory: Path, name: str) -> Path:
    return directory / f"{name}.safetensors"


def _read(directory: Path, card: FeaturesCard, name: str) -> Split:
    path, views = _file(directory, name), _views(card.views, name)
    shape = (card.dataset_card.sizes[name] * views, len(card.mean), 1, 1)
    try:
        with safe_open(path, framework="pt") as opened:
            key = (opened.metadata() or {}).get("fingerprint")
            labels: Tensor = opened.get_tensor("labels")
            found = opened.get_slice("images")
            fits = found.get_dtype() == "F32" and tuple(found.get_shape()) == shape and labels.shape == shape[:1]
    except (OSError, SafetensorError, UnicodeDecodeError) as problem:
        raise CacheError(f"{path}: missing or damaged ({problem}); run `{MADE_BY}` again") from None
    if key != card.key or not fits:
        raise CacheError(f"{path}: does not belong to {directory / CARD}; run `{MADE_BY}` again")
    mapping = MappedImages(path, shape, images_offset(path), torch.float32)
    return Split(mapping.tensor, labels, mapping, views)


def _views(views: int, name: str) -> int:
    return views if name == "train" else 1


def write_features(
    directory: Path,
    key: str,
    dataset: DatasetCard,
    labels: dict[str, Tensor],
    parts: dict[str, Iterable[NDArray[np.float32]]],
    *,
    features: int,
    views: int,
    parameters: int,
    computed_by: str,
) -> None:
    """Write ``parts`` [n * views, features] of each split, and ``labels`` int64 of its images, into ``directory``."""
    moments = _Moments(features, views)
    for name in SPLITS:
        repeated = labels[name].repeat_interleave(_views(views, name)).numpy().astype("<i8").tobytes()
        shape = (len(repeated) // 8, features, 1, 1)
        header = shard_header(shape, shape[0], {"fingerprint": key}, "F32")
        path = _file(directory, name)
        reserve(path, len(header) + len(repeated) + 4 * shape[0] * features)
        with path.open("rb+") as opened:
            opened.write(header + repeated)
            for part in moments.seen(parts[name]) if name == "train" else parts[name]:
                opened.write(np.ascontiguousarray(part, dtype="<f4").data)
    mean, std = moments.result()
    digests = {name: sha256(_file(directory, name)) for name in SPLITS}
    card = FeaturesCard(key, asdict(dataset), views, mean, std, parameters, digests, computed_by)
    write_json(directory / CARD, asdict(card))


class _Moments:
    """The mean and the standard deviation of each feature of the images themselves, from parts [n * views, features].

    So a head is given the same whether it uses all of the views or the first of more.
    """

    def __init__(self, features: int, views: int) -> None:
        self.views = views
        self.count = 0
        self.sums = np.zeros((2, features))

    def seen(self, parts: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for part in parts:
            values = part[:: self.views].astype(np.float64)
            self.count += len(values)
            self.sums += np.stack([values.sum(0), (values**2).sum(0)])
            yield part

    def result(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        mean, square = self.sums / self.count
        variance = np.maximum(square - mean**2, 0)
        least = LEAST_DEVIATION * np.sqrt(variance.mean())
        return tuple(mean.tolist()), tuple(np.maximum(np.sqrt(variance), least or 1.0).tolist())
