"""A spreadsheet shows what a table for people holds, and computes nothing of it."""

import csv
import io

import pytest

from darkroom.utils.csv_files import SpreadsheetWriter


def written(value):
    opened = io.StringIO()
    SpreadsheetWriter(opened).writerows([["name", value]])
    (row,) = csv.reader(io.StringIO(opened.getvalue(), newline=""))
    return row[1]


@pytest.mark.parametrize(
    "text",
    ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", " =1", "\n=1", "＝1", "-what.png"],  # noqa: RUF001
)
def test_a_text_that_would_be_a_formula_is_text(text):
    assert written(text) == f"'{text}"


@pytest.mark.parametrize("value", ["cats", "o'hare", "a=b", "", "-0.5", "+1e-3", -3, 0.25, "größe"])
def test_other_texts_and_all_numbers_are_as_they_are(value):
    assert written(value) == str(value)
