"""The trials of a study: what is tried next, and what became of it."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from darkroom.config import Config
from darkroom.search.attributes import DUPLICATE, FAILURE, SECONDS
from darkroom.search.heartbeat import ask_trial
from darkroom.search.samplers import choose_pruner, choose_sampler, grid
from darkroom.search.space import distributions, from_optuna
from darkroom.search.study import end_trial, interrupted, requeue, running_trials, used_trials

Point = frozenset[tuple[str, Any]]


def params_key(trial: optuna.Trial | FrozenTrial) -> Point:
    """The parameters of a trial, such that equal ones are equal."""
    return frozenset(trial.params.items())


class Trials(Protocol):
    """Where the trials come from that a scheduler has trained; see ``StudyTrials``."""

    def ask(self) -> optuna.Trial | None: ...

    def settings(self, trial: optuna.Trial) -> Mapping[str, Any]: ...

    def resolved(self) -> Sequence[FrozenTrial]: ...

    def report(self, trial: optuna.Trial, value: float, epoch: int) -> None: ...

    def should_prune(self, trial: optuna.Trial) -> bool: ...

    def tell(
        self, trial: optuna.Trial, values: Sequence[float] | None, state: TrialState, reason: str | None = None
    ) -> FrozenTrial: ...

    def requeue(self, trial: optuna.Trial) -> FrozenTrial: ...


class StudyTrials:
    """Asks a study for trials until the budget is spent: ``search.trials``, ``search.minutes`` or ``search.stall``.

    Where one trial is trained after another, each suggestion depends on the earlier trials alone, so that a search
    that was interrupted continues as if it had not been.

    A configuration that was tried is not tried again: the trial is given what the first one came to, and
    one whose twin is under way waits for it. They count, and ``resolved`` names them.
    """

    kind = "trial"

    def __init__(self, study: optuna.Study, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self.study = study
        self.config = config
        self._kinds = distributions(config.search.space.flat())
        self._clock = clock
        self._since = clock() - float(study.user_attrs.get(SECONDS, 0.0))
        # Why no trial was to be begun when one was last asked for.
        self.ending: str | None = None
        self._twins: dict[Point, list[optuna.Trial]] = {}
        self._keys: dict[int, Point] = {}  # of trials that have ended
        self._resolved: list[FrozenTrial] = []
        self._grid = grid(self._kinds, config.search.seed) if config.search.sampler == "grid" else None
        study.pruner = choose_pruner(config, interrupted(study))

    @property
    def seconds(self) -> float:
        """How long the study was searched, in this session and those before."""
        return self._clock() - self._since

    def ask(self) -> optuna.Trial | None:
        """The next trial to train; None if there is none to begin, or none before others have ended."""
        while (ending := self._ending(taken := self._taken())) is None:
            trial = self._suggest(taken)
            if trial is None:
                ending = "every combination was tried"
                break
            key = params_key(trial)
            tried = {self._key(each): each for each in reversed(taken) if each.state.is_finished()}
            if key in tried:
                self._repeat(trial, tried[key])
            elif key in self._twins:
                self._twins[key].append(trial)
            else:
                self._twins[key] = []
                return trial
        self.ending = ending
        return None

    def settings(self, trial: optuna.Trial | FrozenTrial) -> dict[str, Any]:
        """What takes the place of the settings as written, as {"section.key": value}."""
        return {key: from_optuna(value) for key, value in trial.params.items()}

    def name(self, trial: optuna.Trial | FrozenTrial) -> str:
        """Such as "trial 4"."""
        return f"trial {trial.number}"

    def tags(self, trial: optuna.Trial | FrozenTrial) -> dict[str, Any]:
        """What the trial's run is found by."""
        tags = {"trial.number": trial.number}
        if DUPLICATE in trial.user_attrs:
            tags["trial.duplicate_of"] = trial.user_attrs[DUPLICATE]
        return tags

    def resolved(self) -> list[FrozenTrial]:
        """The trials that have ended untrained since this was last asked: others had their parameters."""
        found, self._resolved = self._resolved, []
        return found

    def report(self, trial: optuna.Trial, value: float, epoch: int) -> None:
        if len(self.study.directions) == 1:  # Optuna keeps no epochs beside two objectives
            trial.report(value, epoch)

    def should_prune(self, trial: optuna.Trial) -> bool:
        if len(self.study.directions) > 1:
            return False
        with warnings.catch_warnings():
            # Where train.patience had stopped the best trial, Optuna leaves out the epochs that it has not.
            warnings.filterwarnings("ignore", message="WilcoxonPruner finds steps existing")
            return trial.should_prune()

    def tell(
        self, trial: optuna.Trial, values: Sequence[float] | None, state: TrialState, reason: str | None = None
    ) -> FrozenTrial:
        """End a trial, with its objectives if it is complete and the reason if it failed."""
        ended = end_trial(self.study, trial, values, state, reason)
        for twin in self._twins.pop(params_key(trial)):
            self._repeat(twin, ended)
        self.study.set_user_attr(SECONDS, self.seconds)
        return ended

    def requeue(self, trial: optuna.Trial) -> FrozenTrial:
        """Have a trial whose worker has died tried again. Returns it as it was, still RUNNING."""
        numbers = [trial.number, *(twin.number for twin in self._twins.pop(params_key(trial)))]
        found = [each for each in running_trials(self.study) if each.number in numbers]
        requeue(self.study, found, self._kinds)
        self.study.pruner = choose_pruner(self.config, interrupted(self.study))
        return next(each for each in found if each.number == trial.number)

    def _suggest(self, taken: Sequence[FrozenTrial]) -> optuna.Trial | None:
        if self._grid is not None and not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            known = {params_key(trial) for trial in taken}
            following = next((each for each in self._grid if frozenset(each.items()) not in known), None)
            if following is None:
                return None
            self.study.enqueue_trial(following)
        last = max(taken, key=lambda trial: trial.number, default=None)
        stuck = last is not None and DUPLICATE in last.user_attrs
        self.study.sampler = choose_sampler(self.config, len(taken), interrupted(self.study), stuck=stuck)
        return ask_trial(self.study, self._kinds)

    def _repeat(self, trial: optuna.Trial, first: FrozenTrial) -> None:
        trial.set_user_attr(DUPLICATE, first.number)
        for epoch, value in first.intermediate_values.items():
            trial.report(value, epoch)
        values = first.values if first.state is TrialState.COMPLETE else None
        self._resolved.append(end_trial(self.study, trial, values, first.state, first.user_attrs.get(FAILURE)))

    def _key(self, ended: FrozenTrial) -> Point:
        if ended.number not in self._keys:
            self._keys[ended.number] = params_key(ended)
        return self._keys[ended.number]

    def _taken(self) -> list[FrozenTrial]:
        """The trials that count and those under way: looked up each time, as other machines may search here too."""
        return [*used_trials(self.study), *self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]

    def _ending(self, taken: Sequence[FrozenTrial]) -> str | None:
        """Why no trial is to be begun; None if one is."""
        search = self.config.search
        if len(taken) >= search.trials:
            return f"all trials have run (search.trials: {search.trials})"
        if search.stall is not None and since_improvement(self.study) >= search.stall:
            return f"no improvement in the last trials (search.stall: {search.stall})"
        if search.minutes is not None and self.seconds >= 60 * search.minutes:
            return f"the time limit was reached (search.minutes: {search.minutes:g})"
        return None


def since_improvement(study: optuna.Study) -> int:
    """How many trials have ended since one was complete that none before it equals in every objective."""
    signs = [-1 if direction is StudyDirection.MAXIMIZE else 1 for direction in study.directions]
    front: list[list[float]] = []
    waited = 0
    for trial in sorted(used_trials(study), key=lambda each: (each.datetime_complete, each.number)):
        waited += 1
        if trial.state is not TrialState.COMPLETE:
            continue
        losses = [sign * value for sign, value in zip(signs, trial.values, strict=True)]
        if not any(all(mine <= its for mine, its in zip(best, losses, strict=True)) for best in front):
            front, waited = [*front, losses], 0
    return waited
