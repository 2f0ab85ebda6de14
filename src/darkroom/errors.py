"""The exceptions that Darkroom raises, as one tree.

DarkroomError                 one line: what is wrong, where, what was expected, what to do
├── ConfigError               params.yaml: unknown key, wrong type, value out of range
├── DataError                 the images themselves, or the files they are cached in
│   ├── DownloadError         host unreachable, wrong checksum
│   └── CacheError            cache missing, truncated, of another format or dataset
├── ModelError                architecture and data do not fit, weights file not usable
├── TrainingError             the loss is no longer finite
│   └── LostProcessError      another process that trains the same model has ended
├── SearchError               a space that cannot be searched, a study without a result
├── TrackingError             MLflow store or registry unreachable, or the requested item missing
│   └── OvertakenError        another change of the champion came first
└── ServingError              an address that is taken, a package that is missing
"""

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

# Characters of a value that a message shows.
MAX_QUOTED = 200
# Invisible, and part of words in Persian and of emoji.
JOINERS = "\u200c\u200d"


class DarkroomError(Exception):
    """A condition the user can fix. The message is complete: it needs no traceback.

    Each of ``lines`` is one line, whatever the names in it hold.
    """

    exit_code = 2

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)

    @property
    def lines(self) -> list[str]:
        return [printable(line) for line in self.args]

    def __str__(self) -> str:
        return "\n".join(self.lines)


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
    """Training cannot continue."""


class LostProcessError(TrainingError):
    """A process of a training that several share has ended before the others."""


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
    given, available = given[:MAX_QUOTED], list(choices)
    near = get_close_matches(given, available, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(name) for name in near)}?"
    return f"choose from: {', '.join(available)}"


def first_line(problem: BaseException) -> str:
    """The first line of a problem's message, or its type if it has no message."""
    return str(problem).partition("\n")[0] or type(problem).__name__


def printable(text: str) -> str:
    """``text`` as one line that a terminal shows as it is written: what would break or rewrite it is spelled out.

    Names of files and classes may hold escape sequences, line breaks and marks that reverse what follows.
    """
    if text.isprintable():
        return text
    return "".join(each if _is_shown(each) else each.encode("unicode_escape").decode() for each in text)


def _is_shown(character: str) -> bool:
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"


def quoted(value: object) -> str:
    """A value as messages show it: its ``repr``, cut at ``MAX_QUOTED`` characters."""
    shown = repr(value)
    return shown if len(shown) <= MAX_QUOTED else f"{shown[:MAX_QUOTED]}…"


def counted(number: int, noun: str) -> str:
    """A number of things as messages name it: "1 image", "2,000 images"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
