"""The pictures that servers keep for people to label: a directory of PNG files.

A file is what the model saw of a picture, named by its content, with its record as a text within: a picture and its
record are written at once or not at all. What was sent is not kept, so that nothing of its sender is: no file name, no
address, and no place or time of a photograph.
"""

import fcntl
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from pydantic import Field, TypeAdapter, ValidationError, with_config

from darkroom.errors import counted
from darkroom.utils.files import EXACT, atomic_file
from darkroom.utils.units import MEGABYTE

SUFFIX = ".png"
# The name of the text in a PNG.
RECORD = "darkroom"
Reason = Literal["named", "unlike", "undecided", "disputed"]


class FullInboxError(Exception):
    """The inbox holds as much as it may; the message says what that is."""


@with_config(EXACT)
@dataclass(frozen=True)
class Record:
    """What is known of a picture.

    ``digest`` is that of its pixels, 32 hexadecimal digits. ``version`` of ``model`` answered ``answer`` with this
    calibrated ``probability``. It was kept because somebody named its class, ``label``, or else because it is unlike
    the training images, the answer undecided, or that of the challenger another. ``received`` is the time, ISO 8601.
    """

    digest: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    model: str
    version: str
    answer: str
    probability: Annotated[float, Field(ge=0, le=1)]
    reason: Reason
    received: str
    label: str | None = None
    format_version: Literal[1] = 1


@dataclass(frozen=True)
class Kept:
    """A picture of an inbox: its file, and its record."""

    file: Path
    record: Record

    def content(self) -> bytes:
        return self.file.read_bytes()


def keep(directory: Path, pixels: NDArray[np.uint8], record: Record, *, max_images: int, max_bytes: int) -> bool:
    """Keep a picture, uint8 [C, H, W] gray or RGB, in ``directory``, which is made if it is missing.

    Any number of processes may do so at once. False if it is there already; but a class that somebody named replaces
    what is there. Raises FullInboxError if there would be more than ``max_images`` or ``max_bytes``, and OSError if the
    file cannot be written; then nothing is changed.
    """
    content = _encode(pixels, record)
    with locked(directory):
        file = directory / f"{record.digest}{SUFFIX}"
        if file.exists():
            if record.label is None:
                return False
        else:
            _check_room(directory, len(content), max_images, max_bytes)
        with atomic_file(file) as partial:
            partial.write_bytes(content)
    return True


def remove(directory: Path, kept: Sequence[Kept]) -> int:
    """Remove pictures from the inbox in ``directory``, but not those whose class somebody has named since.

    Returns how many were removed.
    """
    with locked(directory):
        now = {each.record for each in read_inbox(directory)[0]}
        same = [each for each in kept if each.record in now]
        for each in same:
            each.file.unlink(missing_ok=True)
    return len(same)


def read_inbox(directory: Path) -> tuple[list[Kept], list[Path]]:
    """The pictures of an inbox, the oldest first, and the files that are damaged or none of its pictures.

    An inbox that nothing was put into yet is empty.
    """
    found, damaged = [], []
    for file in sorted(directory.glob(f"[!.]*{SUFFIX}")):
        try:
            with Image.open(file) as image:
                text = image.info.get(RECORD, "")
                image.verify()
            record = TypeAdapter(Record).validate_json(str(text))
        except (OSError, SyntaxError, ValueError, UnidentifiedImageError, ValidationError):
            damaged.append(file)
        else:
            found.append(Kept(file, record))
    return sorted(found, key=lambda kept: (kept.record.received, kept.record.digest)), damaged


def _encode(pixels: NDArray[np.uint8], record: Record) -> bytes:
    written, texts = io.BytesIO(), PngInfo()
    texts.add_itxt(RECORD, json.dumps(asdict(record), ensure_ascii=False))
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    picture.save(written, "PNG", pnginfo=texts)
    return written.getvalue()


def _check_room(directory: Path, size: int, max_images: int, max_bytes: int) -> None:
    sizes = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                with suppress(FileNotFoundError):  # somebody has removed it by hand
                    sizes.append(entry.stat().st_size)
    if len(sizes) + 1 > max_images or sum(sizes) + size > max_bytes:
        raise FullInboxError(
            f"full, with {counted(len(sizes), 'image')} of {max_images:,} and {sum(sizes) / MEGABYTE:,.1f} of "
            f"{max_bytes / MEGABYTE:,.1f} MB"
        )


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Change the inbox in ``directory``, which is made if it is missing: one process at a time.

    The lock of one that is killed is free.
    """
    directory.mkdir(parents=True, exist_ok=True)
    opened = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
