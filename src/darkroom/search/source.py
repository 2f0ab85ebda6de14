"""The trials of a study: what is tried next, and what became of it."""

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from darkroom.config import Config
from darkroom.search.space import distributions
from darkroom.search.study import FAILURE, STARTUP_TRIALS, requeue, used_trials


class TrialSource:
    """Asks a study for trials until ``search.trials`` of them count or are under way.

    The sampler is seeded by search.seed and the number of those trials: where one is trained after another, each
    suggestion depends on the earlier trials alone, so that a search that was interrupted goes on as if it had not
    been.
    """

    def __init__(self, study: optuna.Study, config: Config) -> None:
        self.study = study
        self.config = config
        self._kinds = distributions(config.search.space.flat())

    def ask(self) -> optuna.Trial | None:
        """The next trial; None if there is none to begin."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        taken = len(used_trials(self.study)) + len(running)
        if taken >= self.config.search.trials:
            return None
        (seed,) = np.random.SeedSequence([self.config.search.seed, taken]).generate_state(1)
        self.study.sampler = TPESampler(seed=int(seed), n_startup_trials=STARTUP_TRIALS)
        return self.study.ask(self._kinds)

    def report(self, trial: optuna.Trial, value: float, epoch: int) -> None:
        trial.report(value, epoch)

    def should_prune(self, trial: optuna.Trial) -> bool:
        return trial.should_prune()

    def tell(
        self, trial: optuna.Trial, value: float | None, state: TrialState, reason: str | None = None
    ) -> FrozenTrial:
        """End a trial, with its reason if it failed."""
        if reason is not None:
            trial.set_user_attr(FAILURE, reason)
        return self.study.tell(trial, value, state)

    def requeue(self, trial: optuna.Trial) -> FrozenTrial:
        """Have a trial whose worker has died tried again. Returns it as it was, still RUNNING."""
        (found,) = [each for each in self.study.get_trials(states=(TrialState.RUNNING,)) if each.number == trial.number]
        requeue(self.study, [found], self._kinds)
        return found
