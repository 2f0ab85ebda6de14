"""Messages, and progress: as bars at a terminal, elsewhere as a line a minute."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from darkroom.errors import printable


class _Console(Console):
    """Shows each string as one printable line: names from data may hold what clears a screen or forges a line."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                lines = "\n".join(map(printable, segment.text.split("\n")))
                yield Segment(lines, segment.style)


# Results go to standard output, everything about the work to standard error. Without markup: a file's
# name may hold brackets.
output = _Console(highlight=False, soft_wrap=True, markup=False)
messages = _Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

# Between two lines on work that is under way, where there is no terminal.
LINE_SECONDS = 60.0
# The time left is estimated from the pace of these last seconds: an epoch may take many minutes.
PACE_SECONDS = 3600.0


class Throttle:
    """Says whether it is time for another line: a minute after the last."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()

    def __call__(self) -> bool:
        if (now := self._clock()) - self._last < LINE_SECONDS:
            return False
        self._last = now
        return True


class _Lines(Progress):
    """Progress where no bar can be shown, such as in the log of a job: work that takes long prints lines."""

    def __init__(self) -> None:
        super().__init__(console=messages, disable=True, speed_estimate_period=PACE_SECONDS)
        self._is_due = Throttle(messages.get_time)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._report(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._report(task_id)

    def _report(self, task_id: TaskID) -> None:
        if not self._is_due():
            return
        task = self._tasks[task_id]
        total = "" if task.total is None else f" of {task.total:,.0f}"
        left = f"about {duration(task.time_remaining)} left" if task.time_remaining else ""
        parts = [f"{task.completed:,.0f}{total}", task.fields["note"], left]
        messages.print(f"{task.description}: {', '.join(filter(None, parts))}")


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display: bars that are removed when the work is done, or without a terminal a line a minute."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=messages, transient=True, speed_estimate_period=PACE_SECONDS)
    with bars if messages.is_terminal else _Lines() as display:
        yield display


@contextmanager
def reporter() -> Iterator[Callable[[str, int, int], None]]:
    """A callback for (description, amount done, total or 0), shown as progress bars."""
    with progress() as display:
        tasks = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = display.add_task(what, total=None, note="")
            display.update(tasks[what], completed=done, total=total or None)

        yield report


def duration(seconds: float) -> str:
    """Such as 0:09, 12:30 or 1:02:30."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def warn(message: str) -> None:
    messages.print(Text.assemble(("warning:", "yellow"), f" {printable(message)}"))


def error(lines: Iterable[str]) -> None:
    """Print what is wrong and what to do."""
    for line in lines:
        messages.print(Text.assemble(("error:", "bold red"), f" {printable(line)}"))
