"""CSV files in UTF-8, for programs and for people.

A program reads the names back as they are. A spreadsheet would take a text such as `=1+1` for a formula and compute it.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

# What a formula begins with, in full width too (OWASP, "CSV Injection").
FORMULA = tuple("=+-@\t\r＝＋－＠")  # noqa: RUF001


def open_csv(path: Path) -> TextIO:
    """``path``, opened to write CSV to it."""
    return path.open("w", newline="", encoding="utf-8")


def write_csv(path: Path, header: Iterable[object], rows: Iterable[Iterable[object]]) -> None:
    """Write a file that programs read back."""
    with open_csv(path) as opened:
        table = csv.writer(opened)
        table.writerow(header)
        table.writerows(rows)


def write_spreadsheet(path: Path, header: Iterable[object], rows: Iterable[Iterable[object]]) -> None:
    """Write a file that people open in a spreadsheet; see ``SpreadsheetWriter``."""
    with open_csv(path) as opened:
        table = SpreadsheetWriter(opened)
        table.writerow(header)
        table.writerows(rows)


def read_csv(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a file by the names in its header. Raises OSError, ValueError or csv.Error if it is damaged.

    A spreadsheet may have saved it, with a byte order mark.
    """
    with path.open(newline="", encoding="utf-8-sig") as opened:
        yield from csv.DictReader(opened)


class SpreadsheetWriter:
    """``csv.writer``, except that a text that would be a formula has an apostrophe before it: then it is text."""

    def __init__(self, target: TextIO) -> None:
        self._table = csv.writer(target)

    def writerow(self, row: Iterable[object]) -> None:
        self._table.writerow([_as_text(value) for value in row])

    def writerows(self, rows: Iterable[Iterable[object]]) -> None:
        for row in rows:
            self.writerow(row)


def _as_text(value: object) -> object:
    if not isinstance(value, str) or not value.lstrip(" \n").startswith(FORMULA):
        return value
    return value if _is_number(value) else f"'{value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
