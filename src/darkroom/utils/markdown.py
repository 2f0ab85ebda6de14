"""Tables in GitHub's Markdown."""

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]], alignment: str = "---") -> str:
    """A table whose cells are Markdown, its first column to the left and the others as ``alignment`` says."""
    lines = [map(_cell, header), ["---", *[alignment] * (len(header) - 1)], *(map(_cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Any text, such as the name of a class, as Markdown that shows it as it is."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#@" else sign for sign in " ".join(text.split()))


def _cell(text: str) -> str:
    """A bar that is not escaped would end the cell."""
    return re.sub(r"(?<!\\)\|", r"\|", text)
