"""Has the trials of a study trained by workers, and tells the study what has become of them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from darkroom.config import Config
from darkroom.errors import ConfigError, SearchError
from darkroom.search.executors import Seat
from darkroom.search.fused.loop import group
from darkroom.search.source import Source
from darkroom.search.worker import Assignment, Orders, Progress, Report, first_line
from darkroom.training.loop import EpochMetrics, FitResult
from darkroom.utils.signals import held_back

# Workers that die one after another in the same seat, none of them having finished an epoch, that end a search.
DEATHS = 3


class Listener(Protocol):
    """Is told what happens to each trial, in the order in which it happens."""

    def begun(self, trial: optuna.Trial, settings: Mapping[str, Any]) -> None: ...

    def epoch(self, trial: optuna.Trial, metrics: EpochMetrics) -> None: ...

    def ended(self, trial: FrozenTrial) -> None:
        """The trial is complete, pruned, failed, or, while its state is still RUNNING, lost with its worker.

        One that repeats another's parameters is only ended, never begun: it has the user attribute ``duplicate_of``.
        """


@dataclass
class _Training:
    """A trial that was asked for, with what is known of its training."""

    trial: optuna.Trial
    settings: Mapping[str, Any]
    group: str
    result: FitResult


@dataclass
class _Crew:
    """A seat, the trials that its worker is training, those it is to give up, and the deaths since its last report."""

    seat: Seat
    under_way: dict[int, _Training] = field(default_factory=dict)
    given_up: list[int] = field(default_factory=list)
    deaths: int = 0


class Conductor:
    """Asks ``source`` for trials, seats them where they can be trained together, and prunes and ends them.

    ``epochs`` is the length of each training. Trials in one seat at the same time belong to one group: they differ
    in values, not in shapes.
    """

    def __init__(self, source: Source, config: Config, seats: Sequence[Seat], listener: Listener, epochs: int) -> None:
        self.source = source
        self.config = config
        self.listener = listener
        self.epochs = epochs
        self.crews = [_Crew(seat) for seat in seats]
        # Asked for, and waiting for a seat in which their group is trained.
        self.waiting: list[_Training] = []

    def run(self) -> None:
        """Run until the source has no more trials and all are ended.

        Raises SearchError if workers die again and again, and whatever else ends a worker's round.
        """
        pending: dict[Future[Report], _Crew] = {}
        while True:
            idle = [crew for crew in self.crews if crew not in pending.values()]
            for crew in idle:
                orders = self._orders(crew)
                if crew.under_way or orders.give_up:
                    pending[crew.seat.submit(orders)] = crew
            if not pending:
                return
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                crew = pending.pop(future)
                problem = future.exception()
                if isinstance(problem, crew.seat.lost):
                    self._lost(crew, problem)
                else:
                    self._take(crew, future.result())

    def _orders(self, crew: _Crew) -> Orders:
        given_up, crew.given_up = tuple(crew.given_up), []
        begun = []
        while len(crew.under_way) < crew.seat.capacity and (training := self._next(crew)):
            number = training.trial.number
            crew.under_way[number] = training
            begun.append(Assignment(number, training.settings))
            self.listener.begun(training.trial, training.settings)
        return Orders(tuple(begun), given_up)

    def _next(self, crew: _Crew) -> _Training | None:
        """The next trial that can be trained in this seat; what cannot is kept for another, as many as fit in one."""
        seated = next((each.group for each in crew.under_way.values()), None)
        while True:
            for position, training in enumerate(self.waiting):
                if seated is None or training.group == seated:
                    return self.waiting.pop(position)
            if len(self.waiting) >= crew.seat.capacity:
                return None
            with held_back():
                trial = self.source.ask()
                self._hear_of_duplicates()
            if trial is None:
                return None
            self.waiting.append(self._training(trial))

    def _training(self, trial: optuna.Trial) -> _Training:
        settings = {**self.source.settings(trial), "train.epochs": self.epochs}
        try:
            shape = group(self.config.with_settings(settings))
        except ConfigError:  # which the worker will find as well
            shape = ""
        return _Training(trial, settings, shape, FitResult(self.config.train.monitor))

    @held_back()
    def _take(self, crew: _Crew, report: Report) -> None:
        crew.deaths = 0
        for number, reason in report.failures.items():
            self._end(crew.under_way.pop(number), TrialState.FAIL, reason=reason)
        for number, progress in report.progress.items():
            training = crew.under_way[number]
            if self._judge(training, progress):
                continue
            del crew.under_way[number]
            if not progress.is_finished:
                crew.given_up.append(number)

    def _judge(self, training: _Training, progress: Progress) -> bool:
        """Record an epoch; whether the training goes on."""
        metrics, trial = progress.metrics, training.trial
        training.result.history.append(metrics)
        self.listener.epoch(trial, metrics)
        self.source.report(trial, metrics.monitored(self.config.train.monitor), metrics.epoch)
        if progress.is_finished:
            self._end(training, TrialState.COMPLETE, cost=progress.cost)
        elif self.source.should_prune(trial):
            self._end(training, TrialState.PRUNED)
        else:
            return True
        return False

    def _end(
        self, training: _Training, state: TrialState, *, reason: str | None = None, cost: float | None = None
    ) -> None:
        values = None
        if state is TrialState.COMPLETE:
            figure = training.result.best.monitored(self.config.train.monitor)
            values = [figure] if cost is None else [figure, cost]
        self.listener.ended(self.source.tell(training.trial, values, state, reason))
        self._hear_of_duplicates()

    def _hear_of_duplicates(self) -> None:
        for trial in self.source.resolved():
            self.listener.ended(trial)

    @held_back()
    def _lost(self, crew: _Crew, problem: BaseException) -> None:
        for training in crew.under_way.values():
            self.listener.ended(self.source.requeue(training.trial))
        crew.under_way, crew.given_up = {}, []
        crew.deaths += 1
        if crew.deaths == DEATHS:
            raise SearchError(
                f"a worker died {DEATHS} times before it finished an epoch ({first_line(problem)}); if the memory is "
                "too small for so many, lower search.workers or train.batch_size, and run the command again"
            )
        crew.seat.restart()
