"""What is printed is one printable line for each thing that is said, whatever names from data hold."""

import io

import pytest
from rich.table import Table
from rich.text import Text

from darkroom.errors import DataError, did_you_mean, printable, quoted
from darkroom.utils import console
from darkroom.utils.console import _Console, error, reporter, warn

CLEARS = "\x1b[2J\x1b[1;1H"
FORGES = "cats\nerror: disk full\r\x9b2J\u202egnp.exe\u2028"


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def shown(request, monkeypatch):
    """What reaches a terminal without colors, or a file."""
    said = io.StringIO()
    made = _Console(
        file=said, force_terminal=request.param, color_system=None, highlight=False, soft_wrap=True, markup=False
    )
    monkeypatch.setattr(console, "messages", made)
    return made, said


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (
            "größe 写真 \u00a0👩\u200d🚀 \u0645\u06cc\u200c\u062e",
            "größe 写真 \u00a0👩\u200d🚀 \u0645\u06cc\u200c\u062e",
        ),
        (CLEARS, r"\x1b[2J\x1b[1;1H"),
        (FORGES, r"cats\nerror: disk full\r\x9b2J\u202egnp.exe\u2028"),
        ("\udcff", r"\udcff"),
        ("\0\x7f", r"\x00\x7f"),
    ],
)
def test_what_would_break_or_rewrite_a_line_is_spelled_out(text, written):
    assert printable(text) == written
    assert printable(written) == written


@pytest.mark.parametrize("name", [CLEARS, FORGES])
def test_a_name_cannot_clear_the_screen_or_forge_a_line(shown, name):
    made, said = shown

    made.print(f"{name}: 3 images")
    warn(f"{name} has 3 images")
    error([f"{name} is broken"])

    lines = said.getvalue().splitlines()
    assert lines == [f"{printable(name)}: 3 images", f"warning: {printable(name)} has 3 images", lines[2]]
    assert lines[2] == f"error: {printable(name)} is broken"


@pytest.mark.parametrize("name", [CLEARS, FORGES])
def test_a_name_in_a_table_or_a_text_is_spelled_out(shown, name):
    made, said = shown
    table = Table(name)
    table.add_row(name)

    made.print(table, soft_wrap=False, width=200)
    made.print(Text(CLEARS))

    assert printable(name) in said.getvalue()
    assert all(each.isprintable() for each in said.getvalue().split("\n"))


def test_a_name_in_a_progress_bar_is_spelled_out(shown):
    made, said = shown
    with reporter() as report:
        report(f"unpack {CLEARS}", 1, 2)

    assert CLEARS not in said.getvalue()
    assert (r"unpack \x1b[2J" in said.getvalue()) == made.is_terminal


def test_each_line_of_an_error_is_one_line():
    problem = DataError(f"{FORGES}: broken", "nothing was written")

    assert problem.lines == [f"{printable(FORGES)}: broken", "nothing was written"]
    assert str(problem).splitlines() == problem.lines


def test_a_value_is_cut_where_it_is_quoted():
    assert quoted("a" * 5000) == f"'{'a' * 199}…"
    assert len(did_you_mean("a" * 5000, ["adam"])) < 100
