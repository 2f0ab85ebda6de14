"""Fonts for names in any script: that of matplotlib, DejaVu Sans, lacks Chinese, Japanese and Korean, among others."""

import logging
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

from darkroom.utils.console import warn

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font
    from matplotlib.text import Text

# Fonts that have something for every character: an empty picture, or a box.
NO_FONT = re.compile("last ?resort|adobe ?blank|fallback", re.IGNORECASE)
MAX_NAMED = 10
# How Unicode's names of Chinese, Japanese and Korean characters begin.
ASIAN = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "BOPOMOFO", "HANGUL", "FULLWIDTH", "HALFWIDTH")


@contextmanager
def glyphs(figure: "Figure") -> Iterator[None]:
    """While a figure is drawn, take the characters that its font lacks from another font of this machine.

    If no font has them, boxes are drawn, and a line says so once.
    """
    from matplotlib.text import Text

    lacking = {text: _lacking(text) for text in figure.findobj(Text) if isinstance(text, Text)}
    missing = frozenset().union(*lacking.values())
    if missing:
        families, without = _families(missing)
        for text in lacking:
            if lacking[text]:
                text.set_fontfamily([*text.get_fontfamily(), *families])
        if new := without - _reported:
            _reported.update(new)
            _warn_of_missing(new, next(text.get_text() for text, characters in lacking.items() if characters & new))
    with warnings.catch_warnings(), _silent(logging.getLogger("matplotlib.font_manager")):
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # said in our words
        yield


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Silence matplotlib's warnings, such as of a weight that a font lacks."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _lacking(text: "Text") -> frozenset[str]:
    """The characters of a text that its font does not have."""
    from matplotlib.font_manager import findfont, get_font

    # Lines are broken, not drawn.
    characters = set(text.get_text()) - {"\n"}
    if all(character.isascii() for character in characters):
        return frozenset()
    return frozenset(characters - _have(get_font(findfont(text.get_fontproperties())), characters))


def _have(font: "FT2Font", characters: Iterable[str]) -> set[str]:
    return {character for character in characters if font.get_char_index(ord(character))}


@cache
def _families(missing: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """The fewest fonts that together have the ``missing`` characters, and those that none has."""
    from matplotlib.ft2font import FT2Font

    offers = []
    for path, family in _installed().items():
        try:
            font = FT2Font(path)
        except (OSError, RuntimeError):  # removed since, or damaged
            continue
        found = _have(font, missing)
        # Fonts of colored bitmaps, as for emoji, cannot be drawn with.
        if found and font.scalable:
            offers.append((family, found))
    families: list[str] = []
    left = set(missing)
    while offers:
        # Upright and without serifs before others of the same use; always the same one.
        family, found = min(offers, key=lambda offer: (-len(offer[1] & left), "Sans" not in offer[0], offer[0]))
        if not found & left:
            break
        families.append(family)
        left -= found
    return families, frozenset(left)


def _installed() -> dict[str, str]:
    """The files of all fonts and their families, including those installed since matplotlib built its cache."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(findSystemFonts()):
        if path not in known:
            # A damaged font raises whatever the damage leads to.
            with suppress(Exception):
                fontManager.addfont(path)
    # Of several names for a file the first, which is that of its first face.
    return {
        entry.fname: entry.name
        for entry in reversed(fontManager.ttflist)
        if entry.style == "normal" and not NO_FONT.search(entry.name)
    }


_reported: set[str] = set()


def _warn_of_missing(without: frozenset[str], text: str) -> None:
    """Say that no font has some characters, one of which is in ``text``."""
    listed = sorted(without, key=lambda character: (character not in text, character))
    named = " ".join(listed[:MAX_NAMED]) + (f" and {len(listed) - MAX_NAMED:,} more" if len(listed) > MAX_NAMED else "")
    place = " ".join(text.split()).replace(r"\$", "$")
    warn(
        f"no font on this machine has {named} (as in {place!r}): plots show boxes instead, tables and CSV files are "
        f"whole; install {' and '.join(sorted({_package(each) for each in listed}))} (Debian, Ubuntu) or other fonts "
        "that have them"
    )


def _package(character: str) -> str:
    """The package of Debian and Ubuntu with a font for such a character."""
    if unicodedata.name(character, "").startswith(ASIAN):
        return "fonts-noto-cjk"
    return "fonts-symbola" if unicodedata.category(character) == "So" else "fonts-noto-core"
