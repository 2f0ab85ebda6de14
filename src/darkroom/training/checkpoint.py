"""Checkpoints between epochs, from which a training resumes bit for bit."""

import time
import zipfile
from pathlib import Path
from typing import Any

import torch

from darkroom.utils.files import atomic_file
from darkroom.utils.scratch import remove_abandoned

# Of what a training saves. A file in another format counts as none.
FORMAT = 3
# Saving takes at most this share of the time of a training.
SHARE = 0.02


class Checkpoint:
    """A file that holds the state of one training.

    ``key`` identifies what is trained: a checkpoint of other data or settings is left alone, not resumed.
    ``run_id`` is the tracking run that the training belongs to.
    """

    def __init__(self, path: Path, key: str, run_id: str | None = None) -> None:
        self.path = path
        self.key = key
        self.run_id = run_id
        self._due = 0.0

    def is_due(self) -> bool:
        """Whether enough time has gone by since the last saving, measured by what that took."""
        return time.perf_counter() >= self._due

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file's state, atomically."""
        start = time.perf_counter()
        with atomic_file(self.path) as partial:
            torch.save({"format": FORMAT, "key": self.key, "run_id": self.run_id, "state": state}, partial)
        end = time.perf_counter()
        self._due = end + (end - start) / SHARE

    def load(self) -> dict[str, Any] | None:
        """The saved state, with tensors on the CPU; None if there is none for this key.

        Sets ``run_id`` to the saved one. A damaged file counts as none: training starts from the beginning.
        """
        try:
            opened = self.path.open("rb")
        except FileNotFoundError:
            return None
        with opened:
            try:
                # torch.load accepts changed bytes as tensors; the checksums of the zip file detect them.
                damaged = zipfile.ZipFile(opened).testzip()
                opened.seek(0)
                saved = torch.load(opened, map_location="cpu", weights_only=True)
            except Exception:  # there is no saying what damaged bytes make a reader raise
                return None
        if damaged or not isinstance(saved, dict) or saved.keys() != {"format", "key", "run_id", "state"}:
            return None
        if (saved["format"], saved["key"]) != (FORMAT, self.key):
            return None
        self.run_id = saved["run_id"]
        state: dict[str, Any] = saved["state"]
        return state

    def remove(self) -> None:
        """The training is complete and handed over. What a kill in the middle of saving has left goes as well."""
        self.path.unlink(missing_ok=True)
        remove_abandoned(self.path.parent)
