"""Published datasets: their files are downloaded and verified, and read by the publishers' decoders."""

import gzip
import importlib.resources
import math
import os
import shutil
import tempfile
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from darkroom.config.settings import Dataset, Preprocess
from darkroom.data.memmap import CHUNK_BYTES, allocate, release
from darkroom.datasets.fetch import fetch, is_published
from darkroom.datasets.source import DecodedDataset, ReportProgress
from darkroom.errors import CacheError
from darkroom.images.decoder import Channels, Decoder, fit
from darkroom.utils.files import atomic_file


@dataclass(frozen=True)
class Digits:
    """The test part of UCI's Optical Recognition of Handwritten Digits, as scikit-learn ships it."""

    about: str
    file = "digits.csv.gz"

    def download(self, settings: Dataset, directory: Path, report: ReportProgress) -> None:
        shipped = importlib.resources.files("sklearn.datasets.data") / self.file
        with importlib.resources.as_file(shipped) as path, atomic_file(directory / self.file) as partial_file:
            shutil.copyfile(path, partial_file)

    def decode(
        self,
        directory: Path,
        settings: Preprocess,
        scratch: Path,
        report: ReportProgress,
        kept: Path | None = None,
    ) -> DecodedDataset:
        """Rows of 64 pixels, 0 to 16 each, and a label; pixels are scaled to 0 to 255."""
        path = directory / self.file
        try:
            table = np.loadtxt(path, delimiter=",")
        except (OSError, EOFError, ValueError, gzip.BadGzipFile, zlib.error):
            raise _damaged(path) from None
        if table.ndim != 2 or table.shape[1] != 65:
            raise _damaged(path)
        images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        labels = table[:, -1].astype(np.int64)
        undecided = np.full(len(labels), "", dtype="<U5")
        return _conform(DecodedDataset(images, labels, undecided, tuple("0123456789")), settings, scratch)


@dataclass(frozen=True)
class TorchvisionDataset:
    """A dataset of torchvision, with torchvision's URLs, checksums and decoder."""

    class_name: str
    about: str

    @property
    def _class(self) -> Any:
        import torchvision.datasets  # imports torch, which digits and folders do without

        return getattr(torchvision.datasets, self.class_name)

    def _files(self) -> list[tuple[str, str]]:
        """Names and MD5s of the published files."""
        known = self._class
        return list(known.resources) if hasattr(known, "resources") else [(known.filename, known.tgz_md5)]

    def download(self, settings: Dataset, directory: Path, report: ReportProgress) -> None:
        known = self._class
        hosts = list(known.mirrors) if hasattr(known, "mirrors") else [known.url.rpartition("/")[0]]
        mirror = settings.mirror or os.environ.get("DARKROOM_MIRROR")
        if mirror:
            hosts.insert(0, f"{mirror.rstrip('/')}/{settings.name}")
        for name, md5 in self._files():
            fetch(name, md5, hosts, directory, partial(report, name))

    def decode(
        self,
        directory: Path,
        settings: Preprocess,
        scratch: Path,
        report: ReportProgress,
        kept: Path | None = None,
    ) -> DecodedDataset:
        for name, md5 in self._files():
            if not (directory / name).is_file() or not is_published(directory / name, md5):
                raise _damaged(directory / name)
        images, labels, splits = [], [], []
        for split in ("train", "test"):
            report(f"decode {split}", 0, 0)
            part = self._split(directory, scratch, train=split == "train")
            images.append(_as_nchw(np.asarray(part.data)))
            labels.append(np.asarray(part.targets, dtype=np.int64))
            splits.append(np.full(len(labels[-1]), split, dtype="<U5"))
        decoded = DecodedDataset(
            np.concatenate(images), np.concatenate(labels), np.concatenate(splits), tuple(part.classes)
        )
        return _conform(decoded, settings, scratch)

    def _split(self, directory: Path, scratch: Path, *, train: bool) -> Any:
        with tempfile.TemporaryDirectory(dir=scratch) as root:
            # torchvision unpacks beside the archive; links keep the raw directory as it was published.
            has_own_folder = hasattr(self._class, "raw_folder")
            beside = Path(root, self.class_name, "raw") if has_own_folder else Path(root)
            beside.mkdir(parents=True, exist_ok=True)
            for name, _ in self._files():
                (beside / name).symlink_to((directory / name).resolve())
            # The archives are there and verified, so "download" unpacks them and reaches for no network.
            return self._class(root, train=train, download=True)


def _damaged(path: Path) -> CacheError:
    return CacheError(f"{path}: missing or damaged; run `darkroom download` again")


def _as_nchw(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[N, H, W] or [N, H, W, C] as [N, C, H, W]."""
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


def _conform(decoded: DecodedDataset, settings: Preprocess, scratch: Path) -> DecodedDataset:
    """The images in the size and with the channels of the settings; mapped from a file if they must be converted."""
    count, channels, height, width = decoded.images.shape
    sizes = dict(Counter({f"{width}x{height}": count}))
    wanted: Channels = settings.channels or (1 if channels == 1 else 3)
    size = settings.image_size or (height, width)
    images = decoded.images
    if (wanted, *size) != (channels, height, width):
        pictures = (Image.fromarray(image[0] if channels == 1 else image.transpose(1, 2, 0)) for image in images)
        images = allocate(scratch / "images", (count, wanted, *size))
        step = max(1, CHUNK_BYTES // math.prod(images.shape[1:]))
        for row, picture in enumerate(pictures):
            images[row] = fit(picture, wanted, size, settings.fit)
            if row % step == 0:
                release(images)
    decoder = Decoder(wanted, size, settings.fit)
    return DecodedDataset(images, decoded.labels, decoded.splits, decoded.classes, sizes=sizes, decoder=decoder)
