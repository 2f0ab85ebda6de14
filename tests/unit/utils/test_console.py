"""What is printed is one printable line for each thing that is said, whatever names from data hold."""

import io

import pytest
from rich.table import Table
from rich.text import Text

from darkroom.errors import DataError, did_you_mean, printable, quoted
from darkroom.utils import console
from darkroom.utils.console import _Console, duration, error, progress, reporter, warn

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


class Log:
    """A console that writes to no terminal, and lets time pass."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.file = io.StringIO()
        made = _Console(file=self.file, soft_wrap=True, markup=False, get_time=lambda: self.now)
        monkeypatch.setattr(console, "messages", made)

    @property
    def lines(self):
        return self.file.getvalue().splitlines()


@pytest.fixture
def log(monkeypatch):
    return Log(monkeypatch)


def test_work_that_takes_long_prints_a_line_a_minute_where_no_bar_can_be_shown(log):
    with progress() as display:
        task = display.add_task("train", total=4, note="")
        for epoch in (1, 2):
            log.now += 30
            display.update(task, completed=epoch, note=f"val accuracy 0.{epoch}")
        log.now += 120
        display.advance(task)

    # By rich's estimate, from the first epoch to the third.
    assert log.lines == [
        "train: 2 of 4, val accuracy 0.2, about 1:00 left",
        "train: 3 of 4, val accuracy 0.2, about 1:15 left",
    ]


def test_work_that_ends_within_a_minute_prints_no_line(log):
    with reporter() as report:
        report("decode", 1, 2)
        log.now += 54
        report("decode", 2, 2)

    assert not log.lines


def test_a_line_on_work_of_unknown_length_gives_what_is_done(log):
    with reporter() as report:
        log.now += 60
        report("unpack", 12345, 0)

    assert log.lines == ["unpack: 12,345"]


@pytest.mark.parametrize(("seconds", "shown"), [(8.6, "0:09"), (750, "12:30"), (3750, "1:02:30")])
def test_a_duration_is_written_as_on_a_clock(seconds, shown):
    assert duration(seconds) == shown
