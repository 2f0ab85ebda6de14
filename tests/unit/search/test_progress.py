"""What the person at the terminal sees of a running search."""

import io
from collections import Counter

import pytest
from rich.console import Console

from darkroom.search.progress import SearchProgress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def display_of(trials: int = 12, *, seconds: float | None = None) -> tuple[SearchProgress, Clock]:
    clock = Clock()
    console = Console(file=io.StringIO(), force_terminal=False)
    return SearchProgress(console, "search", "accuracy", trials, 10, seconds=seconds, clock=clock), clock


def lines(display: SearchProgress, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(display.render())
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_at_the_start_there_is_nothing_to_tell() -> None:
    display, _ = display_of()

    first, last = lines(display)
    assert first.startswith("search")
    assert first.endswith("0/12")
    assert last == "0 running"


def test_each_running_trial_has_a_line() -> None:
    display, _ = display_of()
    display.trial_started(3, "trial 3")
    display.trial_started(4, "trial 4")
    display.epoch_ended(3, 5, 0.91234)

    _, third, fourth, last = lines(display)
    assert third.startswith("trial 3")
    assert third.endswith("5/10 val accuracy 0.9123")
    assert fourth.endswith("0/10")
    assert last == "2 running"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_of_many_the_first_are_shown_and_the_others_counted(width: int) -> None:
    display, _ = display_of(300)
    for number in range(16):
        display.trial_started(number, f"trial {number}")
        display.epoch_ended(number, 1, 0.5)

    found = lines(display, width)
    assert len(found) == 1 + 8 + 2
    assert found[-2:] == ["and 8 more", "16 running"]
    assert max(len(line) for line in found) <= width


def test_what_has_ended_is_counted_by_its_state() -> None:
    display, _ = display_of()
    for number, state in enumerate(["complete", "complete", "pruned", "failed", "interrupted"]):
        display.trial_started(number, f"trial {number}")
        display.trial_ended(number, state, "best 0.9000 (trial 1)")

    first, last = lines(display)
    assert "4/12" in first  # the interrupted one is tried again
    assert last == "best 0.9000 (trial 1), 2 complete, 1 pruned, 1 failed, 0 running"


def test_a_duplicate_ends_without_having_begun() -> None:
    display, _ = display_of()
    display.trial_ended(0, "complete", "best 0.9000 (trial 0)")

    assert lines(display)[-1] == "best 0.9000 (trial 0), 1 complete, 0 running"


def test_the_time_left_is_judged_by_the_trials_of_this_session() -> None:
    display, clock = display_of(12)
    display.known(Counter(complete=6), "best 0.9 (trial 2)")
    clock.now = 20.0
    assert display.remaining() is None

    for number in (6, 7):
        display.trial_started(number, f"trial {number}")
        display.trial_ended(number, "complete", "")

    assert display.remaining() == pytest.approx(40)  # 10 seconds each
    assert lines(display)[0].endswith("8/12 about 0:40 left")


def test_the_time_left_is_no_longer_than_the_budget() -> None:
    display, clock = display_of(100, seconds=60)
    clock.now = 10.0
    display.trial_ended(0, "complete", "")

    assert display.remaining() == 50
    clock.now = 100.0
    assert display.remaining() == 0


@pytest.mark.parametrize(("trials", "text"), [(2, "about 0:10 left"), (13, "about 2:00 left"), (721, "about 2:00:00")])
def test_the_time_left_is_written_as_a_clock(trials: int, text: str) -> None:
    display, clock = display_of(trials)
    clock.now = 10.0
    display.trial_ended(0, "complete", "")

    assert text in lines(display)[0]


def test_more_trials_than_were_asked_for_leave_no_time() -> None:
    display, clock = display_of(2)
    clock.now = 10.0
    for number in range(3):
        display.trial_ended(number, "complete", "")

    assert display.remaining() == 0


def written(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with SearchProgress(console, "search", "accuracy", 12, 10) as display:
        display.trial_started(3, "trial 3")
        display.epoch_ended(3, 5, 0.9)
        display.trial_ended(3, "complete", "best 0.9000 (trial 3)")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_it_is_drawn_on_terminals_only() -> None:
    assert written(terminal=False) == ""
    assert "best 0.9000" in written(terminal=True)


def test_a_log_gets_a_line_a_minute() -> None:
    display, clock = display_of()
    for number in (3, 4):
        display.trial_started(number, f"trial {number}")
    display.epoch_ended(3, 1, 0.5)
    display.trial_ended(3, "complete", "trial 3 0.5000")
    clock.now = 90
    display.epoch_ended(4, 1, 0.25)
    clock.now = 100
    display.epoch_ended(4, 2, 0.5)

    written = display._console.file
    assert isinstance(written, io.StringIO)
    assert written.getvalue() == "search: 1 of 12, trial 3 0.5000, 1 complete, 1 running, about 16:30 left\n"
