"""The scheduler: has workers train the trials of a study and reports the results to it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from darkroom.config import Config
from darkroom.errors import ConfigError, SearchError
from darkroom.search.executors import WorkerSlot
from darkroom.search.fused.loop import group
from darkroom.search.trials import Trials
from darkroom.search.worker import TrialAssignment, TrialProgress, WorkerCommand, WorkerResult
from darkroom.training.loop import EpochMetrics, FitResult
from darkroom.utils.console import warn
from darkroom.utils.memory import failure_reason
from darkroom.utils.signals import held_back

# Workers that die one after another in the same slot, none of them having finished an epoch, that end a search.
MAX_WORKER_DEATHS = 3


class Listener(Protocol):
    """Receives the events of each trial, in order."""

    def trial_started(self, trial: optuna.Trial, settings: Mapping[str, Any]) -> None: ...

    def epoch_ended(self, trial: optuna.Trial, metrics: EpochMetrics) -> None: ...

    def trial_ended(self, trial: FrozenTrial) -> None:
        """The trial is complete, pruned, failed, or, while its state is still RUNNING, lost with its worker.

        One that repeats another's parameters is only ended, never started: it has the user attribute ``duplicate_of``.
        """


@dataclass
class _Training:
    """A trial that was asked for, with what is known of its training."""

    trial: optuna.Trial
    settings: Mapping[str, Any]
    group: str
    result: FitResult


@dataclass
class _SlotState:
    """A slot, the trials that its worker is training, those it is to give up, and the deaths since its last report."""

    slot: WorkerSlot
    under_way: dict[int, _Training] = field(default_factory=dict)
    given_up: list[int] = field(default_factory=list)
    deaths: int = 0


class TrialScheduler:
    """Asks ``source`` for trials, puts them into slots where they can be trained together, and prunes and ends them.

    ``epochs`` is the length of each training. Trials in one slot at the same time belong to one group: they differ
    in values, not in shapes.
    """

    def __init__(
        self, source: Trials, config: Config, slots: Sequence[WorkerSlot], listener: Listener, epochs: int
    ) -> None:
        self.source = source
        self.config = config
        self.listener = listener
        self.epochs = epochs
        self.states = [_SlotState(slot) for slot in slots]
        # Asked for, and waiting for a slot in which their group is trained.
        self.waiting: list[_Training] = []
        self.notes: set[str] = set()

    def run(self) -> None:
        """Run until the source has no more trials and all are ended.

        Raises SearchError if workers die again and again, and whatever else ends a worker's round.
        """
        pending: dict[Future[WorkerResult], _SlotState] = {}
        while True:
            idle = [state for state in self.states if state not in pending.values()]
            for state in idle:
                command = self._command(state)
                if state.under_way or command.give_up:
                    pending[state.slot.submit(command)] = state
            if not pending:
                return
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                state = pending.pop(future)
                problem = future.exception()
                if isinstance(problem, state.slot.lost):
                    self._lost(state, problem)
                else:
                    self._take(state, future.result())

    def _command(self, state: _SlotState) -> WorkerCommand:
        given_up, state.given_up = tuple(state.given_up), []
        assignments = []
        while len(state.under_way) < state.slot.capacity and (training := self._next(state)):
            number = training.trial.number
            state.under_way[number] = training
            assignments.append(TrialAssignment(number, training.settings))
            self.listener.trial_started(training.trial, training.settings)
        return WorkerCommand(tuple(assignments), given_up)

    def _next(self, state: _SlotState) -> _Training | None:
        """The next trial that can be trained in this slot; what cannot is kept for another, as many as fit in one."""
        slot_group = next((each.group for each in state.under_way.values()), None)
        while True:
            for position, training in enumerate(self.waiting):
                if slot_group is None or training.group == slot_group:
                    return self.waiting.pop(position)
            if len(self.waiting) >= state.slot.capacity:
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
    def _take(self, state: _SlotState, report: WorkerResult) -> None:
        state.deaths = 0
        for note in report.notes - self.notes:
            warn(f"search: {note}")
        self.notes |= report.notes
        for number, reason in report.failures.items():
            self._end(state.under_way.pop(number), TrialState.FAIL, reason=reason)
        for number, progress in report.progress.items():
            training = state.under_way[number]
            if self._judge(training, progress):
                continue
            del state.under_way[number]
            if not progress.is_finished:
                state.given_up.append(number)

    def _judge(self, training: _Training, progress: TrialProgress) -> bool:
        """Record an epoch; whether the training continues."""
        metrics, trial = progress.metrics, training.trial
        training.result.history.append(metrics)
        self.listener.epoch_ended(trial, metrics)
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
            value = training.result.best.monitored(self.config.train.monitor)
            values = [value] if cost is None else [value, cost]
        self.listener.trial_ended(self.source.tell(training.trial, values, state, reason))
        self._hear_of_duplicates()

    def _hear_of_duplicates(self) -> None:
        for trial in self.source.resolved():
            self.listener.trial_ended(trial)

    @held_back()
    def _lost(self, state: _SlotState, problem: BaseException) -> None:
        for training in state.under_way.values():
            self.listener.trial_ended(self.source.requeue(training.trial))
        state.under_way, state.given_up = {}, []
        state.deaths += 1
        if state.deaths == MAX_WORKER_DEATHS:
            raise SearchError(
                f"a worker died {MAX_WORKER_DEATHS} times before it finished an epoch ({failure_reason(problem)}); if "
                "the memory is too small for so many, lower search.workers or train.batch_size, and run the command "
                "again"
            )
        state.slot.restart()
