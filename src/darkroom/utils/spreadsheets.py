"""CSV that people open in a spreadsheet, which takes a text such as `=1+1` for a formula and computes it.

Files that programs read back, such as predictions.csv, hold names as they are and are not written by this.
"""

import csv
from collections.abc import Iterable
from typing import TextIO

# What a formula begins with, in full width too (OWASP, "CSV Injection").
FORMULA = tuple("=+-@\t\r＝＋－＠")  # noqa: RUF001


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
