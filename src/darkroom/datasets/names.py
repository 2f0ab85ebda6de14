"""File names as text that can be compared: decoded, with plain slashes, composed (NFC).

Bytes of a name that are not UTF-8 are held as lone surrogates, as Python does for names on disk.
"""

import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePosixPath

from darkroom.errors import DataError

# What the name is likely to be, shown where nothing says it: first those that refuse what is not theirs.
GUESSES = ("utf-8", "gbk", "shift_jis", "big5", "euc_kr", "cp1252", "cp866", "cp437")
MACOS = "__MACOSX"
UTF8_FLAG = 0x800
UNIX = 3  # which system made it; macOS says so too
UNICODE_PATH = 0x7075  # the extra field of Info-ZIP


def compose(name: str, encoding: str | None, source: object) -> str:
    """The name composed (NFC): macOS stores letters and accents separately, other systems do not.

    Bytes in it that are not UTF-8 are decoded by ``encoding``. Raises DataError if that is None or does not read them.
    """
    if name.isascii():
        return name
    raw = name.encode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", name if _is_utf8(raw) else _decode(raw, encoding, source))


def as_text(name: str) -> str:
    """The name for a file in UTF-8: bytes of it that are not UTF-8 are shown as such, like ``\\xfc``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def with_slashes(name: str) -> str:
    """The name of an archive's member with ``/`` between its parts, and no ``.`` among them."""
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def zip_names(members: Sequence[zipfile.ZipInfo], encoding: str | None, source: object) -> list[str]:
    """The name of each member, as text.

    What a member says of its own encoding is followed. Other names are read by ``encoding``, else as UTF-8 if
    all of them are surely that: zips of Linux and macOS often do not say so. Raises DataError if they are not.
    """
    silent = [info for info in members if _declared_name(info) is None]
    read_as = "utf-8" if encoding is None and _are_utf8(silent) else encoding
    names = []
    for info in members:
        name = _declared_name(info)
        # What follows a zero byte is no part of a name.
        names.append((_decode(_raw_name(info), read_as, source) if name is None else name).partition("\0")[0])
    return names


def is_hidden(name: str) -> bool:
    """Whether a file is hidden, lies in a hidden folder, or is what macOS writes beside files."""
    # Looked for in the whole name first: nearly all have neither.
    return (name.startswith(".") or "/." in name or MACOS in name) and any(map(_hides, name.split("/")))


def visible_folder(name: str) -> str:
    """The folder that a file lies in, or the one that holds the hidden folder that it lies in."""
    return "/".join(takewhile(lambda part: not _hides(part), name.split("/")[:-1]))


def _hides(part: str) -> bool:
    return part.startswith(".") or part == MACOS


def _declared_name(info: zipfile.ZipInfo) -> str | None:
    """The name of a member that declares its encoding, or None."""
    if info.flag_bits & UTF8_FLAG or info.orig_filename.isascii():
        return info.orig_filename
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        # Version 1, and made for this very name: a tool that renames may leave the field of the old one.
        if kind == UNICODE_PATH and field[:5] == struct.pack("<BL", 1, zlib.crc32(_raw_name(info))):
            return field[5:].decode()
    return None


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    # zipfile has read it as cp437, in which every byte is a character.
    return info.orig_filename.encode("cp437")


def _is_utf8(raw: bytes) -> bool:
    return _read(raw, "utf-8") is not None


def _are_utf8(members: Sequence[zipfile.ZipInfo]) -> bool:
    """Whether the names of members that do not say it are UTF-8, and not by chance.

    Three bytes that make one letter come hardly by chance, two do: the GBK of "cat" in Chinese is an "è" in UTF-8. Of
    those only what looks like words is taken, and nothing of Windows, which never leaves UTF-8 unsaid.
    """
    names = [_read(_raw_name(info), "utf-8") for info in members]
    if None in names:
        return False
    if any(letter > "\u07ff" for name in names if name for letter in name):
        return True
    on_unix = all(info.create_system == UNIX for info in members)
    return on_unix and all(_is_word(part) for name in names if name for part in name.split("/") if not part.isascii())


def _is_word(part: str) -> bool:
    """Whether a part of a name has three letters and more before its suffix, all of one script."""
    letters = [letter for letter in part.rpartition(".")[0] or part if letter.isalpha()]
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in letters}
    return len(letters) >= 3 and len(scripts) == 1


def _decode(raw: bytes, encoding: str | None, source: object) -> str:
    if encoding is not None and (name := _read(raw, encoding)) is not None:
        return name
    problem = f"not {encoding}" if encoding else "of no encoding that it names" if _is_utf8(raw) else "not UTF-8"
    shown = raw.decode("utf-8", "backslashreplace")
    raise DataError(f"{source}: the name '{shown}' is {problem}; rename it, or set dataset.encoding: {_guesses(raw)}")


def _guesses(raw: bytes) -> str:
    """The name in other encodings, for the user to choose from."""
    readings: dict[str, list[str]] = {}
    for encoding in GUESSES:
        name = _read(raw, encoding)
        if name is not None and name.isprintable():
            readings.setdefault(name, []).append(encoding)
    return ", ".join(f"{' or '.join(encodings)} reads {name!r}" for name, encodings in readings.items())


def _read(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except UnicodeError:
        return None
