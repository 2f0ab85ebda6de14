"""Everything Darkroom raises on purpose, as one tree.

DarkroomError                 one line: what is wrong, where, what was expected, what to do
├── ConfigError               params.yaml: unknown key, wrong type, value out of range
├── DataError                 the images themselves, or the files they are cached in
│   ├── DownloadError         host unreachable, wrong checksum
│   └── CacheError            cache missing, truncated, of another format or dataset
├── ModelError                architecture and data do not fit, weights file not usable
├── TrainingError             the loss is no longer finite
├── SearchError               a space that cannot be searched, a study without a result
├── TrackingError             MLflow store or registry away, or without what was asked for
│   └── OvertakenError        another champion was made while one was being decided on
└── ServingError              an address that is taken, a package that is missing
"""

from collections.abc import Iterable
from difflib import get_close_matches


class DarkroomError(Exception):
    """A condition the user can mend. The message is complete: it needs no traceback."""

    exit_code = 2


class ConfigError(DarkroomError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another one."""


class DataError(DarkroomError):
    """The images or their arrangement cannot be used."""


class DownloadError(DataError):
    """A published file could not be fetched, or is not the published one."""


class CacheError(DataError):
    """The preprocessed tensors are missing, damaged, or belong to something else."""


class ModelError(DarkroomError):
    """A model cannot be built for these images, or its file cannot be used."""


class TrainingError(DarkroomError):
    """Training cannot go on."""


class SearchError(DarkroomError):
    """A hyperparameter search cannot start, or ended without a result."""


class TrackingError(DarkroomError):
    """The MLflow store or registry cannot be reached or lacks what was asked for."""


class OvertakenError(TrackingError):
    """Another change of the champion came first; nothing was changed by this one."""


class ServingError(DarkroomError):
    """The server cannot start."""


def did_you_mean(given: str, choices: Iterable[str]) -> str:
    """A hint for a name that is not among ``choices``: the nearest ones, else all of them."""
    available = list(choices)
    near = get_close_matches(given, available, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(name) for name in near)}?"
    return f"choose from: {', '.join(available)}"


def counted(number: int, noun: str) -> str:
    """A number of things as messages name it: "1 image", "2,000 images"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
