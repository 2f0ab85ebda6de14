"""A user's own images: one subfolder per class, or a table of labels, with or without splits."""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.config.settings import Dataset, Preprocess
from darkroom.data.digests import Digests
from darkroom.datasets.archives import pack
from darkroom.datasets.decoding import Headers
from darkroom.datasets.inbox import find_labels, label_with_inbox, read_labels, store_labels, without_inbox
from darkroom.datasets.inventory import MAX_EXAMPLES, Inventory
from darkroom.datasets.labels import LabeledImages, label_images
from darkroom.datasets.layout import UNLABELED, arrange
from darkroom.datasets.packed import read_index
from darkroom.datasets.source import DecodedDataset, ReportProgress
from darkroom.datasets.splits import INBOX, assign_rows
from darkroom.datasets.steps import Steps
from darkroom.datasets.survey import common_channels, common_size, count_sizes, notes
from darkroom.datasets.tables import SUFFIXES as TABLES
from darkroom.datasets.tables import find_table, store_table
from darkroom.datasets.value_range import find_depth, values_of_each
from darkroom.datasets.workers import Workers, processes_or_this
from darkroom.errors import DataError, counted
from darkroom.images.decoder import Decoder
from darkroom.images.depth import Sampled
from darkroom.utils.scratch import scratch_directory

PACKED = "images.zip"
# Below this many images starting worker processes costs more than they save.
PARALLEL_FROM = 2048


@dataclass(frozen=True)
class Folder:
    """A directory or archive of images."""

    about: str

    def download(self, settings: Dataset, directory: Path, report: ReportProgress) -> str:
        source = Path(settings.path).expanduser()
        store_table(settings.labels, source, directory)
        store_labels(source, directory)
        count = partial(report, "pack images")
        return str(pack(source, directory / PACKED, lambda done: count(done, 0), encoding=settings.encoding))

    def decode(
        self,
        directory: Path,
        settings: Preprocess,
        scratch: Path,
        report: ReportProgress,
        kept: Path | None = None,
    ) -> DecodedDataset:
        archive = directory / PACKED
        names, records = read_index(archive)
        inventory = Inventory.read(directory, len(names))
        table, accepted = find_table(directory), find_labels(directory)

        def label(names: Sequence[str]) -> LabeledImages:
            return label_images(table, names) if table else label_by_folders(names, without_inbox(inventory, accepted))

        labeled = label_with_inbox(names, accepted, label)
        left_out = inventory.counts() | {"unlabelled": _without_label(names, labeled)}
        names, records = [names[row] for row in labeled.rows.tolist()], records[labeled.rows]
        with _open_workers(settings, archive, len(names)) as workers:
            steps = Steps(archive.resolve(), names, records, kept or scratch, workers, report)
            headers, digests = steps.read_headers()
            sampled = _sample(steps, headers, digests, settings)
            train = _train_rows(headers, sampled, labeled, digests, settings)
            depth = find_depth(names, headers, sampled, train, settings)
            # Those of the inbox have the size that an earlier model saw; the images decide as they do without them.
            own = np.flatnonzero(labeled.splits != INBOX)
            decoder = Decoder(
                settings.channels or common_channels(headers[own], [names[row] for row in own], settings.bands),
                settings.image_size or common_size(headers[own]),
                settings.fit,
                depth.value_range,
                depth.nodata,
                settings.bands,
                depth.has_bytes,
            )
            images, reasons = steps.decode(decoder, digests)
        broken = {names[row]: reason for row, reason in reasons.items()}
        if broken:
            whole = np.delete(np.arange(len(names)), list(reasons))
            _refuse_lost_splits(labeled, whole, names, reasons)
            headers, digests, labeled = headers[whole], digests[whole], labeled.take(whole)
            names = [names[row] for row in whole]
        return DecodedDataset(
            images,
            labeled.labels,
            labeled.splits,
            labeled.classes,
            tuple(names),
            count_sizes(headers),
            broken,
            left_out,
            labeled.groups,
            labeled.attributes,
            digests,
            np.stack([headers["height"], headers["width"]], axis=1).astype(np.int64),
            decoder,
            (*filter(None, [labeled.reading]), *depth.notes, *notes(headers[labeled.splits != INBOX], decoder)),
            labeled.warnings,
        )


def _refuse_lost_splits(
    labeled: LabeledImages, whole: NDArray[np.int64], names: Sequence[str], reasons: Mapping[int, str]
) -> None:
    """Refuse a split of which no image can be decoded: another one would be cut from train in its place."""
    for split in sorted(set(labeled.splits) - set(labeled.splits[whole]) - {"", INBOX}):
        rows = np.flatnonzero(labeled.splits == split)
        raise DataError(
            f"none of {counted(len(rows), 'image')} of {split} can be decoded, such as {names[rows[0]]} "
            f"({reasons[int(rows[0])]}); fix or remove them all"
        )


def label_by_folders(names: Sequence[str], inventory: Inventory) -> LabeledImages:
    """Labels and splits from the folders in ``names``. Raises DataError as ``arrange`` does."""
    try:
        labels, splits, classes = arrange(names, inventory.folders)
    except DataError as problem:
        tables = [kind for kind in TABLES if kind in inventory.left_out]
        if not tables:
            raise
        raise DataError(
            f"{problem}; if a {tables[0]} file holds the labels, name it in dataset.labels (or --labels of init)"
        ) from None
    rows = np.flatnonzero(labels != UNLABELED)
    warnings = []
    if len(rows) < len(names):
        count = counted(len(names) - len(rows), "image")
        example = names[int(np.flatnonzero(labels == UNLABELED)[0])]
        cut = "" if "test" in splits[rows] else "; the test split is cut from train"
        warnings.append(f"{count} without a class folder, or in one for predictions, left out, such as {example}{cut}")
    return LabeledImages(rows, labels[rows], splits[rows], classes, warnings=tuple(warnings))


def label_source(source: Path, table: str | None, names: Sequence[str], inventory: Inventory) -> LabeledImages:
    """Labels and splits of the images ``names`` in ``source``, from its ``table`` or from the folders.

    Raises DataError as `darkroom download` and `darkroom preprocess` do.
    """
    accepted = read_labels(source)

    def label(names: Sequence[str]) -> LabeledImages:
        if table is None:
            return label_by_folders(names, without_inbox(inventory, accepted))
        with scratch_directory() as place:
            store_table(table, source, place)
            stored = find_table(place)
            assert stored, "it has just been stored"
            return label_images(stored, names)

    return label_with_inbox(names, accepted, label)


def _without_label(names: Sequence[str], labeled: LabeledImages) -> dict[str, Any]:
    rows = np.setdiff1d(np.arange(len(names)), labeled.rows)
    return {"count": len(rows), "examples": [names[row] for row in rows[:MAX_EXAMPLES].tolist()]}


def _open_workers(settings: Preprocess, archive: Path, images: int) -> AbstractContextManager[Workers]:
    if settings.executor == "ray":
        from darkroom.datasets.ray_workers import ray_workers  # only here: it is an extra

        return ray_workers(settings.ray_address, archive.resolve())
    return processes_or_this((os.cpu_count() or 1) if images >= PARALLEL_FROM else 0)


def _sample(steps: Steps, headers: Headers, digests: Digests, settings: Preprocess) -> dict[int, Sampled | None]:
    """Some values of each image of more than 8 bits, by row; None where one cannot be decoded."""
    deep = np.flatnonzero(headers["is_deep"])
    return steps.sample_values(deep, digests, values_of_each(len(deep)), settings.bands) if len(deep) else {}


def _train_rows(
    headers: Headers,
    sampled: dict[int, Sampled | None],
    labeled: LabeledImages,
    digests: Digests,
    settings: Preprocess,
) -> NDArray[np.int64]:
    """The rows that will be in the train split, where that must be known before the images are decoded."""
    if not sampled:
        return np.empty(0, dtype=np.int64)
    is_readable = headers["channels"] > 0
    is_readable[[row for row, each in sampled.items() if each is None]] = False
    rows = np.flatnonzero(is_readable)
    return rows[assign_rows(labeled.take(rows), settings, digests[rows])["train"]]
