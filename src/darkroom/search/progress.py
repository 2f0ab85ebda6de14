"""The running search: at the terminal, or as a line a minute in a log."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from darkroom.utils.console import Throttle, duration

# Running trials that are shown each on a line of its own.
MAX_LINES = 8
BAR = 24


@dataclass
class _Running:
    name: str
    epoch: int = 0
    value: float | None = None


class SearchProgress:
    """What a search is doing, as a context: gone from a terminal when it is over, elsewhere a line a minute.

    ``title`` names what is counted, ``trials`` is how many there may be, ``epochs`` the length of each,
    ``seconds`` how long it may still take.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        monitor: str,
        trials: int,
        epochs: int,
        *,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title = title
        self.monitor = monitor
        self.trials = trials
        self.epochs = epochs
        self.seconds = seconds
        self._clock = clock
        self._start = clock()
        self._running: dict[int, _Running] = {}
        self._ended: Counter[str] = Counter()
        self._before = 0
        self._best = ""
        self._console = console
        self._is_due = Throttle(clock)
        self._live = (
            Live(console=console, get_renderable=self.render, transient=True, refresh_per_second=4)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def known(self, ended: Counter[str], best: str) -> None:
        """Set the results of earlier sessions: how many trials ended in which state, and the best of them."""
        self._ended, self._before, self._best = ended, ended.total(), best

    def trial_started(self, number: int, name: str) -> None:
        self._running[number] = _Running(name)

    def epoch_ended(self, number: int, epoch: int, value: float) -> None:
        self._running[number] = _Running(self._running[number].name, epoch, value)
        if self._live is None and self._is_due():
            left = self.remaining()
            parts = [f"{self._ended.total()} of {self.trials}", self._results()]
            parts += [f"about {duration(left)} left"] if left else []
            self._console.print(f"{self.title}: {', '.join(parts)}")

    def trial_ended(self, number: int, state: str, best: str) -> None:
        """``best`` says which trial is the best so far, as it is to be shown."""
        self._running.pop(number, None)
        self._best = best
        if state != "interrupted":  # which is tried again
            self._ended[state] += 1

    def remaining(self) -> float | None:
        """Seconds until the last trial ends, at the pace of this session; None before one has ended."""
        elapsed, done = self._clock() - self._start, self._ended.total()
        estimates = [] if self.seconds is None else [max(0.0, self.seconds - elapsed)]
        if done > self._before:
            estimates.append(elapsed / (done - self._before) * max(0, self.trials - done))
        return min(estimates, default=None)

    def render(self) -> Group:
        """A line on the whole search, one on its results, one on each running trial."""
        done, running = self._ended.total(), sorted(self._running.items())
        left = self.remaining()
        table = Table.grid(padding=(0, 1))
        table.add_row(
            self.title,
            _bar(done, self.trials),
            f"{done}/{self.trials}",
            "" if not left else f"about {duration(left)} left",
        )
        for _, trial in running[:MAX_LINES]:
            value = "" if trial.value is None else f"val {self.monitor} {trial.value:.4f}"
            table.add_row(trial.name, _bar(trial.epoch, self.epochs), f"{trial.epoch}/{self.epochs}", value)
        hidden = len(running) - MAX_LINES
        more = [Text(f"and {hidden} more", style="dim")] if hidden > 0 else []
        return Group(table, *more, Text(self._results(), style="dim"))

    def _results(self) -> str:
        counts = [f"{count} {state}" for state, count in self._ended.items()]
        return ", ".join([*([self._best] if self._best else []), *counts, f"{len(self._running)} running"])


def _bar(done: int, total: int) -> ProgressBar:
    return ProgressBar(total=max(1, total), completed=done, width=BAR)
