"""Messages and progress bars at the terminal; no progress bars where there is no terminal."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
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


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display, shown on terminals only and removed when the work is done."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as display:
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


def warn(message: str) -> None:
    messages.print(Text.assemble(("warning:", "yellow"), f" {printable(message)}"))


def error(lines: Iterable[str]) -> None:
    """Print what is wrong and what to do."""
    for line in lines:
        messages.print(Text.assemble(("error:", "bold red"), f" {printable(line)}"))
