"""The interface of every dataset: fetch its files, and read images from them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from darkroom.config.settings import Dataset, Preprocess
from darkroom.data.digests import Digests
from darkroom.images.decoder import Decoder

# What is being done, how much of it is done, and how much there is (0: not known).
ReportProgress = Callable[[str, int, int], None]
# What else is known of each image, by name: text [N].
Attributes = dict[str, NDArray[np.object_]]


@dataclass(frozen=True)
class DecodedDataset:
    """All readable images of a dataset, in the order of its files.

    ``images`` uint8 [N, C, H, W], possibly mapped from a file; ``labels`` int64 [N], indices into
    ``classes``; ``splits`` [N], the published split of each image: "train", "val", "test", "inbox" if a server has kept
    it, or "" if it is not decided yet; ``names`` [N], the file of each image, or empty if images have none;
    ``digests`` uint8 [N, 16], that of each file's bytes, None if images have no files.
    ``sizes`` counts the original sizes ("width x height"), and ``original_sizes`` int64 [N, 2] are the height and width
    that each image is shown with, None if images have no files; ``broken`` gives the reason for each file
    that could not be decoded. ``left_out`` describes the files that are not images, and the images without a class, as
    report.json does; it is empty if there are none.

    Images of one group (a patient, a camera; ``groups`` int64 [N], None if unknown) belong in one split.
    ``attributes`` are the other columns of a table of labels. ``decoder`` made the pixels; ``notes`` describe in lines
    how the dataset was read, ``warnings`` what could not be read.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    classes: tuple[str, ...]
    names: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, Any] = field(default_factory=dict)
    groups: NDArray[np.int64] | None = None
    attributes: Attributes = field(default_factory=dict)
    digests: Digests | None = None
    original_sizes: NDArray[np.int64] | None = None
    decoder: Decoder | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class DatasetSource(Protocol):
    """One dataset of the catalog."""

    @property
    def about(self) -> str:
        """One line: what is in it."""

    def download(self, settings: Dataset, directory: Path, report: ReportProgress) -> str | None:
        """Download or copy the dataset's files to ``directory``.

        Returns a line about what was left out, if anything can be. Raises DataError.
        """

    def decode(
        self,
        directory: Path,
        settings: Preprocess,
        scratch: Path,
        report: ReportProgress,
        kept: Path | None = None,
    ) -> DecodedDataset:
        """Read the images from ``directory``, using ``scratch`` for what does not fit into memory.

        What takes long is put into ``kept`` instead, where a call finds what the last one had finished. Broken images
        are left out and listed, never replaced. Raises DataError.
        """
