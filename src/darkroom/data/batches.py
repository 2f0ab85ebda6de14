"""Batches from the cache: gathered and augmented on the device of the model.

There are no worker processes: decoded uint8 images are small enough to be kept in the device's memory
(or the page cache), and one indexing operation makes a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.config.settings import Augment
from darkroom.data.augmentation import augment
from darkroom.data.augmentation.draws import drawn_for
from darkroom.data.augmentation.geometry import flip
from darkroom.data.cache import CARD, DatasetCard, read_labels
from darkroom.data.memmap import MappedImages
from darkroom.data.shard_store import ShardStore
from darkroom.data.sharded_images import ShardedImages
from darkroom.data.shards import MADE_BY, Spread, check_content, read_shard
from darkroom.data.shares import Share
from darkroom.data.streamed_images import StreamedImages
from darkroom.errors import CacheError, DarkroomError

CPU = torch.device("cpu")
# Of a GPU's free memory at most this share is taken for images; what is left is for the model.
SHARE_OF_DEVICE = 0.5
# On a GPU the images of several batches are gathered and augmented at once, of this many bytes together:
# launching the kernels would take longer than they run.
BLOCK_BYTES = 16 << 20
# A model is asked about as many images at once as have this many values: 27 of 3x224x224 on a CPU, where more take
# gigabytes and twice the time (EfficientNet-Lite0, 153 images: 5.0 s at once, 2.7 s by 32), and 222 on a GPU.
VALUES_AT_ONCE = {"cpu": 1 << 22, "cuda": 1 << 25}


@dataclass(frozen=True)
class Split:
    """``images`` uint8 [N, C, H, W] and ``labels`` int64 [N]; ``mapping``, if the images lie in files.

    Of features, float32 [N, features, 1, 1], there may be several ``views`` of an image, one after another.
    """

    images: Tensor | ShardedImages
    labels: Tensor
    mapping: MappedImages | ShardedImages | None = None
    views: int = 1

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def originals(self) -> "Split":
        """The images themselves, without further views."""
        if self.views == 1:
            return self
        assert isinstance(self.images, Tensor), "only features have views"
        return Split(self.images[:: self.views], self.labels[:: self.views], self.mapping)

    def take(self, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """The images and labels of ``rows`` int64 [n], on the split's device, as new tensors on ``device``."""
        taken = self.images.index_select(0, rows), self.labels.index_select(0, rows)
        return self._sent(taken, device)

    @property
    def streams(self) -> bool:
        """Whether the images arrive while they are read."""
        return isinstance(self.images, StreamedImages)

    def some_rows(self, count: int) -> Tensor:
        """``count`` images from all over the split, which may be sorted by class: int64 [count]."""
        if isinstance(self.images, StreamedImages):
            return self.images.some_rows(count)
        return torch.arange(count, device=self.images.device) * len(self) // count

    @property
    def pixels(self) -> "SplitPixels":
        """The images as numpy arrays, each read when it is asked for."""
        return SplitPixels(self)

    def at_once(self, batch_size: int, device: torch.device) -> int:
        """How many images to ask a model on ``device`` about at once: ``batch_size``, but fewer of large ones."""
        most = VALUES_AT_ONCE.get(device.type, VALUES_AT_ONCE["cuda"]) // self.images.shape[1:].numel()
        return min(batch_size, max(1, most))

    def in_order(
        self, batch_size: int, device: torch.device, first: int = 0, every: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches in the order of the split, on ``device``: of all from number ``first`` on each ``every``-th."""
        batches = zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True)
        for batch in islice(batches, first, None, every):
            yield self._sent(batch, device)

    def _sent(self, batch: tuple[Tensor, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
        images, labels = batch
        if device.type == "cuda" and images.device.type == "cpu":
            # From pinned memory the host need not wait for the copy.
            images, labels = images.pin_memory(), labels.pin_memory()
        sent = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        if self.mapping:
            self.mapping.touched(len(labels))
        return sent


class Pixels(Protocol):
    """Images uint8 [N, C, H, W], by their rows: an array, or what is read like one."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class SplitPixels:
    """The images of a split on the CPU, by their rows int64 [n]."""

    split: Split

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        return self.split.take(torch.from_numpy(rows), CPU)[0].numpy()


def place(device: torch.device, *splits: Split) -> list[Split]:
    """The splits on ``device``; one that no longer fits beside those before it stays where it is, sent by batches."""
    if device.type == "cpu":
        return list(splits)
    left = SHARE_OF_DEVICE * _free_bytes(device)
    found = []
    for split in splits:
        fits = split.images.nbytes <= left and not split.streams
        left -= split.images.nbytes * fits
        there = replace(split, images=split.images.to(device), labels=split.labels.to(device), mapping=None)
        found.append(there if fits else split)
    return found


def _free_bytes(device: torch.device) -> float:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


def read_split(directory: Path, card: DatasetCard, name: str, store: ShardStore | None = None) -> Split:
    """One split of a cache, mapped from its files: memory is taken only for images that are touched.

    Files that are not there are those of ``store``: the train split's as it is read, others before this returns.
    Raises CacheError if a file is missing, damaged, or not one that ``card`` describes.
    """
    shards = card.shards[name]
    if store and name == "train" and not all(map(store.has, shards)):
        labels = _checked(torch.from_numpy(read_labels(directory, card, name)), directory, card, name)
        streamed = StreamedImages(store, shards, labels)
        return Split(streamed, labels, streamed)
    read = []
    for shard in shards:
        place = store.keep(shard) if store else directory
        read.append(read_shard(place, shard, card.shape))
        if place == directory and _is_newer(path := place / shard.file, directory / CARD):
            check_content(path, shard)  # it may have been changed since
    places = Spread(card.sizes[name], len(shards)).places
    labels = torch.from_numpy(np.concatenate([of_shard for of_shard, _ in read])[places])
    _checked(labels, directory, card, name)
    mappings = [mapping for _, mapping in read]
    if len(mappings) == 1:
        return Split(mappings[0].tensor, labels, mappings[0])
    sharded = ShardedImages(mappings)
    return Split(sharded, labels, sharded)


def _is_newer(path: Path, other: Path) -> bool:
    return path.stat().st_mtime_ns > other.stat().st_mtime_ns


def _checked(labels: Tensor, directory: Path, card: DatasetCard, name: str) -> Tensor:
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(card.classes)):
        raise CacheError(f"{directory}: damaged (labels of {name} that are no classes); run `{MADE_BY}` again")
    return labels


def read_split_of(
    directory: Path, fingerprint: str, name: str, owner: str, *, error: type[DarkroomError] = CacheError
) -> Split:
    """One split of a cache, whose fingerprint must be ``fingerprint``, that of the data of ``owner``.

    Raises ``error`` if the cache is not there or is of other data, CacheError if it is damaged.
    """
    try:
        card = DatasetCard.read(directory)
    except CacheError:
        card = None
    if card is None or card.fingerprint != fingerprint:
        raise error(
            f"{directory}: does not hold the {name} images of {owner} (dataset {fingerprint[:12]}"
            f"{f', found {card.fingerprint[:12]}' if card else ''}); run `dvc repro preprocess`"
        )
    return read_split(directory, card, name)


class TrainBatches:
    """Shuffled, augmented batches of a split; each iteration is one epoch in a new order.

    Batches are on ``device``, images and labels. ``generator`` (on the CPU) orders the images and
    ``augment_generator`` (on the device) draws the augmentation: their states and ``epoch``, saved with a
    checkpoint, are all that the next epoch depends on. The last batch of an epoch is smaller if ``batch_size``
    does not divide the number of images; with ``drop_last`` it is left out. ``images`` is how many an epoch has. Of an
    image with several views an epoch has one, drawn evenly from the first ``settings.views``.

    The "balanced" sampler draws as many images, with replacement, from classes that are all equally likely.
    Mirroring in alternation shows each image as it is in one epoch and mirrored in the next, beginning with
    either at random: without the doublets of a coin thrown each time (Jordan, "94% on CIFAR-10 in 3.29
    seconds on a single GPU", 2024).

    With a ``share`` the batches are of all processes together: of each the labels are all there, but only the images
    that this process takes. The generators of all processes stay alike.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        settings: Augment,
        seed: int,
        sampler: str = "shuffle",
        device: torch.device = CPU,
        *,
        drop_last: bool = False,
        share: Share | None = None,
    ) -> None:
        assert settings.views <= split.views, "there are no others"
        self.split = split
        self.share = share
        count = len(split) // split.views
        self.batch_size = min(batch_size, count)
        self.images = count // self.batch_size * self.batch_size if drop_last else count
        self.settings = settings
        self.device = device
        self.epoch = 0
        self.generator = torch.Generator().manual_seed(seed)
        self.augment_generator = torch.Generator(device).manual_seed(seed)
        self.changes = settings.changes_images
        self.chances = _balanced(split.labels[:: split.views]) if sampler == "balanced" else None
        first = torch.rand(len(split), generator=torch.Generator().manual_seed(seed)) < 0.5
        self.first_mirrored = first.to(split.images.device)
        if split.mapping:
            split.mapping.expect_any_order()

    def __len__(self) -> int:
        return -(-self.images // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in self.begin_epoch().split(self._block()):
            if self.share is not None:
                yield from self._shared(rows, self.share)
                continue
            images, labels = self.take(rows, odd=bool(self.epoch % 2))
            yield from zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True)

    def _shared(self, rows: Tensor, share: Share) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of a block of ``rows``, each with the images that its ``share`` takes."""
        batches = torch.arange(len(rows), device=rows.device).split(self.batch_size)
        taken = [batch[share.rows(len(batch), rows.device).taken] for batch in batches]
        places = torch.cat(taken)
        with drawn_for(places.to(self.device), len(rows)):
            images, _ = self.take(rows[places], odd=bool(self.epoch % 2))
        labels = self.split.labels[rows].to(self.device)
        yield from zip(images.split([len(each) for each in taken]), labels.split(self.batch_size), strict=True)

    def begin_epoch(self) -> Tensor:
        """The rows of the split in the order of a new epoch: int64 [images], where the split is."""
        self.epoch += 1
        return self._order()[: self.images].to(self.split.images.device)

    def take(self, rows: Tensor, odd: bool | Tensor) -> tuple[Tensor, Tensor]:
        """The images of ``rows``, augmented, and their labels; ``odd`` says whether the epoch's number is."""
        images, labels = self.split.take(rows, self.device)
        return self.changed(images, rows, odd), labels

    def changed(self, images: Tensor, rows: Tensor, odd: bool | Tensor) -> Tensor:
        """``images``, which are those of ``rows``, mirrored and augmented."""
        if self.settings.flip == "alternating":
            mirrored = self.first_mirrored[rows] ^ odd
            images = flip(images, mirrored.to(self.device, non_blocking=True))
        return augment(images, self.settings, self.augment_generator)

    def _block(self) -> int:
        """Images that are gathered and augmented at once: a multiple of the batch size."""
        if self.device.type == "cpu":
            return self.batch_size
        batch_bytes = self.batch_size * self.split.images.nbytes // len(self.split)
        return self.batch_size * max(1, BLOCK_BYTES // batch_bytes)

    def _order(self) -> Tensor:
        if isinstance(self.split.images, StreamedImages):
            return self.split.images.draw_order(self.generator)
        stored, views = self.split.views, self.settings.views
        count = len(self.split) // stored
        if self.chances is None:
            order = torch.randperm(count, generator=self.generator)
        else:
            order = torch.multinomial(self.chances, count, replacement=True, generator=self.generator)
        if views == 1:
            return order * stored
        return order * stored + torch.randint(views, (count,), generator=self.generator)


def side_by_side(several: Sequence[TrainBatches]) -> Iterator[tuple[Tensor, Tensor]]:
    """An epoch of each of ``several``, whose batches are of one size: images [K, N, C, H, W] and labels [K, N]."""
    size = several[0].batch_size
    for rows in torch.stack([each.begin_epoch() for each in several]).split(several[0]._block(), 1):
        images, labels = take_together(several, rows, [bool(each.epoch % 2) for each in several])
        yield from zip(images.split(size, 1), labels.split(size, 1), strict=True)


def take_together(several: Sequence[TrainBatches], rows: Tensor, odd: Sequence[bool] | Tensor) -> tuple[Tensor, Tensor]:
    """Of each of ``several`` its ``rows`` int64 [K, N], as its ``take`` would: images [K, N, C, H, W], labels [K, N].

    From one split the images of all are gathered at once, which for small ones takes a fraction of the time.
    """
    first = several[0]
    splits = [first.split] if all(each.split is first.split for each in several) else [each.split for each in several]
    shares = zip(splits, rows.chunk(len(splits)), strict=True)
    taken = [split.take(share.flatten(), first.device) for split, share in shares]
    images, labels = (torch.cat(each) if len(splits) > 1 else each[0] for each in zip(*taken, strict=True))
    images = images.unflatten(0, rows.shape)
    if any(each.changes for each in several):
        images = torch.stack(
            [
                each.changed(own, own_rows, own_odd)
                for each, own, own_rows, own_odd in zip(several, images, rows, odd, strict=True)
            ]
        )
    return images, labels.view_as(rows)


def _balanced(labels: Tensor) -> Tensor:
    """The probability of each image such that all classes present are equally likely, on the CPU."""
    labels = labels.cpu()  # Apple's GPUs know no float64
    return 1 / labels.bincount()[labels].double()
