"""The best configurations and the settings as written, each trained again with other seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from darkroom.config import Config
from darkroom.search.attributes import FAILURE
from darkroom.search.heartbeat import abandoned, ask_trial
from darkroom.search.space import from_optuna, starting_point
from darkroom.search.study import directions, end_trial, ranked, requeue, running_trials, used_trials
from darkroom.search.trials import Point, params_key

STARTING_POINT = "starting point"
# Parameters and user attributes of a repeat: the number of the trial that it repeats, and train.seed.
REPEAT_OF = "repeat_of"
SEED = "seed"
AS_WRITTEN = -1
SEEDS = 2**31
KINDS: dict[str, BaseDistribution] = {REPEAT_OF: IntDistribution(AS_WRITTEN, SEEDS), SEED: IntDistribution(0, SEEDS)}


@dataclass(frozen=True)
class Candidate:
    """A configuration that was trained again with other seeds, and the best monitored metric of each.

    ``label`` is "starting point" or "trial N" and ``trial`` that number, None if no trial had the settings as
    written. ``settings`` take the place of those written. ``failures`` say why repeats gave no value: such a
    candidate cannot win.
    """

    label: str
    trial: int | None
    settings: dict[str, Any]
    values: tuple[float, ...]
    failures: tuple[str, ...]


def open_repeats(storage: BaseStorage, study: optuna.Study, config: Config) -> optuna.Study:
    """The study of the repeats, beside ``study`` in its storage; what a kill has interrupted is queued again."""
    repeats = optuna.create_study(
        storage=storage,
        study_name=f"{study.study_name}-repeats",
        direction=directions(config)[0],
        load_if_exists=True,
    )
    requeue(repeats, abandoned(repeats), KINDS)
    return repeats


class RepeatTrials:
    """Asks for each of the best ``search.finalists`` trials of ``study`` with ``search.repeats`` seeds.

    So it does for the settings as written, be they among the best or not. The seeds follow train.seed, which all
    trials had. In the interface of ``TrialSource``.
    """

    kind = "repeat"

    def __init__(self, study: optuna.Study, repeats: optuna.Study, config: Config) -> None:
        self.study = repeats
        self.config = config
        self._trials = study.get_trials()
        self._start, best = _candidates(study, config)
        self._candidates = [AS_WRITTEN, *best] if config.search.finalists else []
        self._seeds = [(config.train.seed + count) % SEEDS for count in range(1, config.search.repeats + 1)]

    def ask(self) -> optuna.Trial | None:
        """The next repeat to train; None if all are trained or under way."""
        if not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            known = {params_key(trial) for trial in (*used_trials(self.study), *running_trials(self.study))}
            # Seed by seed, so that all candidates have as many where this is cut short.
            pairs = ({REPEAT_OF: number, SEED: seed} for seed in self._seeds for number in self._candidates)
            following = next((pair for pair in pairs if frozenset(pair.items()) not in known), None)
            if following is None:
                return None
            self.study.enqueue_trial(following)
        trial = ask_trial(self.study, KINDS)
        for key, value in trial.params.items():
            trial.set_user_attr(key, value)
        return trial

    def settings(self, trial: optuna.Trial | FrozenTrial) -> dict[str, Any]:
        """What takes the place of the settings as written, as {"section.key": value}."""
        return {**self._settings(trial.params[REPEAT_OF]), "train.seed": trial.params[SEED]}

    def resolved(self) -> Sequence[FrozenTrial]:
        return ()

    def report(self, trial: optuna.Trial, value: float, epoch: int) -> None:
        trial.report(value, epoch)

    def should_prune(self, trial: optuna.Trial) -> bool:
        return False

    def tell(
        self, trial: optuna.Trial, values: Sequence[float] | None, state: TrialState, reason: str | None = None
    ) -> FrozenTrial:
        """End a repeat. Only the monitored metric is kept: the cost does not depend on the seed."""
        return end_trial(self.study, trial, values and values[:1], state, reason)

    def requeue(self, trial: optuna.Trial) -> FrozenTrial:
        """Have a repeat whose worker has died tried again. Returns it as it was, still RUNNING."""
        (found,) = [each for each in running_trials(self.study) if each.number == trial.number]
        requeue(self.study, [found], KINDS)
        return found

    def name(self, trial: optuna.Trial | FrozenTrial) -> str:
        """Such as "trial 4, seed 2"."""
        return f"{_label(trial.params[REPEAT_OF])}, seed {trial.params[SEED]}"

    def tags(self, trial: optuna.Trial | FrozenTrial) -> dict[str, Any]:
        """What the repeat's run is found by."""
        number, seed = trial.params[REPEAT_OF], trial.params[SEED]
        return {"trial.repeat_of": STARTING_POINT if number == AS_WRITTEN else number, "trial.seed": seed}

    @property
    def total(self) -> int:
        """How many repeats there are."""
        return len(self._candidates) * len(self._seeds)

    def candidates(self) -> list[Candidate]:
        """What was trained again, the settings as written first, with what came of it so far."""
        ended = {(each.params[REPEAT_OF], each.params[SEED]): each for each in used_trials(self.study)}
        found = []
        for number in self._candidates:
            trials = [ended[number, seed] for seed in self._seeds if (number, seed) in ended]
            found.append(
                Candidate(
                    label=_label(number),
                    trial=self._start if number == AS_WRITTEN else number,
                    settings=self._settings(number),
                    values=tuple(trial.values[0] for trial in trials if trial.state is TrialState.COMPLETE),
                    failures=tuple(each.user_attrs[FAILURE] for each in trials if each.state is TrialState.FAIL),
                )
            )
        return found

    def _settings(self, number: int) -> dict[str, Any]:
        params = {} if number == AS_WRITTEN else self._trials[number].params
        return {key: from_optuna(value) for key, value in params.items()}


def _label(number: int) -> str:
    return STARTING_POINT if number == AS_WRITTEN else f"trial {number}"


def _candidates(study: optuna.Study, config: Config) -> tuple[int | None, list[int]]:
    """The number of the trial with the settings as written, and those of the others among the best finalists."""
    written = frozenset((starting_point(config) or {}).items())
    start = next((trial.number for trial in used_trials(study) if params_key(trial) == written), None)
    best: dict[Point, int] = {}
    for trial in ranked(study):
        best.setdefault(params_key(trial), trial.number)
    finalists = list(best.items())[: config.search.finalists]
    return start, [number for params, number in finalists if params != written]
