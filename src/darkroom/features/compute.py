"""Compute the features of a dataset once, in parts that survive a kill."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from darkroom.config import Config
from darkroom.data.augmentation import augment
from darkroom.data.augmentation.geometry import flip
from darkroom.data.batches import Split, read_split
from darkroom.data.cache import DatasetCard
from darkroom.errors import CacheError, ModelError, counted
from darkroom.features.body import Body, fastest, feature_function
from darkroom.features.files import SPLITS, Features, FeaturesCard, is_intact, read_features, write_features
from darkroom.features.key import features_directories
from darkroom.models.classifier import Classifier
from darkroom.utils.allocator import keep_freed_memory
from darkroom.utils.console import messages, progress
from darkroom.utils.files import atomic_directory, atomic_file, digest

# Images whose features are one file while others are computed.
PART = 64
# Of the features of other settings so many stay, for a way back.
KEPT = 3
PARTIAL = ".partial"
# Names the program that computed the parts beside it.
PROGRAM = "computed_by"
# Images by which the fastest way to compute is chosen.
EXAMPLE = 16


def find_features(
    config: Config, dataset: DatasetCard, images: Path, place: Path, whole: Classifier, device: torch.device
) -> tuple[Path, Features]:
    """The features of the dataset in ``images`` below ``place``, and their directory; computed on ``device`` if they
    are not there. They may have more views than ``config`` asks for.

    Raises CacheError, or ModelError if features are not finite.
    """
    places = features_directories(place, config, dataset, whole)
    directory, key = next(iter(places.items()))
    with _alone(directory):
        found = next((each for each in places if _is_there(each, places[each], config.augment.views)), None)
        if found is None:
            _Computation(config, dataset, images, directory, key, whole, device).run()
    directory = found or directory
    _remove_old(place, directory)
    return directory, read_features(directory)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Lock ``directory``: no other process computes its features inside the block."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def _is_there(directory: Path, key: str, views: int) -> bool:
    if not directory.exists():
        return False
    try:
        there = FeaturesCard.read(directory).views
        if not is_intact(directory, key):
            reason = f"{directory}: not the features that it should hold, or damaged"
        elif there < views:
            reason = f"{directory}: of each image {counted(there, 'view')}, expected {views}"
        else:
            directory.touch()
            return True
    except CacheError as problem:
        reason = str(problem).partition("; run")[0]
    messages.print(f"features: {reason}; they are computed again")
    return False


def _remove_old(place: Path, used: Path) -> None:
    """Remove all features but the ``KEPT`` most recently used, with their files."""
    found = [path for path in place.iterdir() if path.is_dir() and path.suffix in ("", PARTIAL)]
    newest = sorted({path.with_suffix("") for path in found} - {used}, key=lambda each: _used_at(each, found))
    for old in newest[: -(KEPT - 1)]:
        for path in (old, old.with_suffix(PARTIAL)):
            shutil.rmtree(path, ignore_errors=True)
        old.with_suffix(".lock").unlink(missing_ok=True)


def _used_at(directory: Path, found: list[Path]) -> float:
    return max(path.stat().st_mtime for path in found if path.with_suffix("") == directory)


class _Computation:
    """The features of ``dataset``, whose images lie in ``images``, into ``directory``."""

    def __init__(
        self,
        config: Config,
        dataset: DatasetCard,
        images: Path,
        directory: Path,
        key: str,
        whole: Classifier,
        device: torch.device,
    ) -> None:
        self.config, self.dataset, self.directory, self.key = config, dataset, directory, key
        self.device = device
        self.partial = directory.with_suffix(PARTIAL)
        self.body = Body(whole.to(device))
        self.count = self.body.network.feature_count
        self.splits: dict[str, Split] = {name: read_split(images, dataset, name) for name in SPLITS}
        self.plain = feature_function(self.body, device)
        self.function, self.computed_by = self.plain, "torch"

    def run(self) -> None:
        keep_freed_memory()
        total = sum(len(self.splits[name]) * self._views(name) for name in SPLITS)
        with progress() as display:
            task = display.add_task("features", total=total, note="")
            self.function, self.computed_by = fastest(
                self.body, self.plain, self._pixels(SPLITS[0], 0)[:EXAMPLE], total
            )
            self._keep_parts_of_this_program()
            missing = [
                (name, start) for name in SPLITS for start in self._starts(name) if not self._is_done(name, start)
            ]
            left = sum(self._images(name, start) * self._views(name) for name, start in missing)
            if left < total:
                messages.print(f"features: resuming after {total - left:,} of {total:,}")
            display.update(task, completed=total - left, note=self.computed_by)
            for name, start in missing:
                for view in self._compute(name, start):
                    display.advance(task, view)
        with atomic_directory(self.directory) as written:
            write_features(
                written,
                self.key,
                self.dataset,
                {name: split.labels for name, split in self.splits.items()},
                {name: self._parts(name) for name in SPLITS},
                features=self.count,
                views=self.config.augment.views,
                parameters=sum(each.numel() for each in self.body.network.model.parameters()),
                computed_by=self.computed_by,
            )
        shutil.rmtree(self.partial)
        messages.print(f"features: computed {total:,} vectors of {self.count:,} numbers with {self.computed_by}")

    def _keep_parts_of_this_program(self) -> None:
        """Remove what another program computed before a kill: the features of all images are of one program."""
        program = self.partial / PROGRAM
        if not program.exists() or program.read_text() != self.computed_by:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir()
            program.write_text(self.computed_by)

    def _views(self, name: str) -> int:
        return self.config.augment.views if name == "train" else 1

    def _starts(self, name: str) -> range:
        return range(0, len(self.splits[name]), PART)

    def _images(self, name: str, start: int) -> int:
        return min(PART, len(self.splits[name]) - start)

    def _parts(self, name: str) -> Iterator[NDArray[np.float32]]:
        return (self._read(self._part(name, start)) for start in self._starts(name))

    def _part(self, name: str, start: int) -> Path:
        return self.partial / f"{name}-{start:09}.npy"

    def _is_done(self, name: str, start: int) -> bool:
        path = self._part(name, start)
        if not path.exists():
            return False
        try:
            return self._read(path).shape == (self._images(name, start) * self._views(name), self.count)
        except (OSError, ValueError):
            return False

    def _read(self, path: Path) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.load(path)
        return found

    def _pixels(self, name: str, start: int) -> Tensor:
        return self.splits[name].take(torch.arange(start, start + self._images(name, start)), self.device)[0]

    def _compute(self, name: str, start: int) -> Iterator[int]:
        """Compute a part; yields the number of images of each finished view."""
        pixels = self._pixels(name, start)
        views = []
        for shown in self._shown(pixels, start, self._views(name)):
            views.append(self.function(shown).float().cpu())
            yield len(pixels)
        found = torch.stack(views, 1).flatten(0, 1)
        if not found.isfinite().all():
            raise ModelError(
                f"model.backbone: {self.body.network.backbone.name} gives features that are not finite; are its "
                "weights damaged?"
            )
        with atomic_file(self._part(name, start)) as partial, partial.open("wb") as opened:
            np.save(opened, found.numpy())

    def _shown(self, pixels: Tensor, start: int, views: int) -> Iterator[Tensor]:
        """The images themselves, then augmented copies, whose random numbers depend on the part alone."""
        yield pixels
        settings = self.config.augment
        drawn = int(digest([self.config.train.seed, start])[:12], 16)
        generator = Generator(pixels.device).manual_seed(drawn)
        first = torch.rand(len(pixels), generator=generator, device=pixels.device) < 0.5
        for view in range(1, views):
            shown = flip(pixels, first ^ bool(view % 2)) if settings.flip == "alternating" else pixels
            yield augment(shown, settings, generator)
