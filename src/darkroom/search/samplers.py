"""Which sampler and pruner a search uses, and how they see trials that were interrupted.

An interrupted search must continue as if it had not been interrupted. But the study still has the interrupted trials.
The samplers and pruners here ignore them, where Optuna would count them or use their numbers.
"""

import itertools
import random
import warnings
from collections.abc import Collection, Iterator, Mapping
from copy import copy
from fractions import Fraction
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from darkroom.config import Config
from darkroom.search.optuna_internals import Hyperband, with_failures_last
from darkroom.search.space import distributions

# Trials drawn at random before a model of them suggests more, and completed before the median prunes any.
STARTUP_TRIALS = 5


def choose_sampler(config: Config, taken: int, interrupted: Collection[int], *, stuck: bool = False) -> BaseSampler:
    """The sampler of the next suggestion, where ``taken`` trials count or are under way.

    It is seeded by search.seed and ``taken``, so that each suggestion depends on the trials before it alone; those
    whose numbers are ``interrupted`` are left out of account. One that is ``stuck``, having suggested what was tried
    already, gives its turn to a random one.
    """
    (state,) = np.random.SeedSequence([config.search.seed, taken]).generate_state(1)
    seed = int(state)
    if stuck:
        return RandomSampler(seed=seed)
    match config.search.sampler:
        case "tpe":
            return _Tpe(seed, interrupted, distributions(config.search.space.flat()))
        case "gp":
            return _Gp(seed, interrupted)
        case "cma-es":
            return _CmaEs(seed, taken)
        case _:  # of a grid, every point is queued
            return RandomSampler(seed=seed)


class _Tpe(TPESampler):
    def __init__(self, seed: int, interrupted: Collection[int], kinds: Mapping[str, BaseDistribution]) -> None:
        super().__init__(seed=seed, n_startup_trials=STARTUP_TRIALS)
        self._interrupted = interrupted
        self._kinds = {name: kind for name, kind in sorted(kinds.items()) if not kind.single()}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The space of the study. Optuna compares those of all trials for it, for each suggestion."""
        return self._kinds if len(study.directions) == 1 else super().infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(with_failures_last(study, self._interrupted), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return super().sample_independent(
            with_failures_last(study, self._interrupted), trial, param_name, param_distribution
        )


class _Gp(GPSampler):
    def __init__(self, seed: int, interrupted: Collection[int]) -> None:
        super().__init__(seed=seed, n_startup_trials=STARTUP_TRIALS)
        self._interrupted = interrupted

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(with_failures_last(study, self._interrupted), trial, search_space)


class _CmaEs(CmaEsSampler):
    """Counts the trials that count, where Optuna mixes a trial's number into the seed."""

    def __init__(self, seed: int, taken: int) -> None:
        super().__init__(seed=seed)
        self._taken = taken

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        counted = copy(trial)
        counted.number = self._taken
        return super().sample_relative(study, counted, search_space)


def grid(kinds: Mapping[str, BaseDistribution], seed: int) -> Iterator[dict[str, Any]]:
    """Every combination of the values of a space once, in an order that ``seed`` decides."""
    points = [dict(zip(kinds, values, strict=True)) for values in itertools.product(*map(_values, kinds.values()))]
    random.Random(seed).shuffle(points)  # noqa: S311
    return iter(points)


def _values(kind: BaseDistribution) -> list[Any]:
    if isinstance(kind, CategoricalDistribution):
        return list(kind.choices)
    assert isinstance(kind, FloatDistribution | IntDistribution)
    assert kind.step is not None, "a grid over fractions without a step was refused with the settings"
    # Exactly as they were written: in binary 3 * 0.1 is not 0.3.
    low, high, step = (Fraction(str(value)) for value in (kind.low, kind.high, kind.step))
    convert = int if isinstance(kind, IntDistribution) else float
    return [convert(low + count * step) for count in range(int((high - low) / step) + 1)]


def choose_pruner(config: Config, interrupted: Collection[int]) -> BasePruner:
    """The pruner of the settings. ``interrupted`` are numbers of trials that it is to leave out of account."""
    epochs = config.search.epochs or config.train.epochs
    match config.search.pruner:
        case "median":
            return MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=max(1, epochs // 5))
        case "hyperband":
            return Hyperband(epochs, interrupted)
        case "successive-halving":
            return _SuccessiveHalving(interrupted)
        case "wilcoxon":
            with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
                return WilcoxonPruner()
        case _:
            return NopPruner()


class _SuccessiveHalving(SuccessiveHalvingPruner):
    """Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020."""

    def __init__(self, interrupted: Collection[int]) -> None:
        super().__init__(min_resource=1)
        self._interrupted = interrupted

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return super().prune(cast(optuna.Study, _StudyHiding(study, self._interrupted)), trial)


class _StudyHiding:
    """A study as if some of its trials had not been."""

    def __init__(self, study: optuna.Study, hidden: Collection[int]) -> None:
        self._study = study
        self._hidden = hidden

    def get_trials(self, deepcopy: bool = True, states: Collection[TrialState] | None = None) -> list[FrozenTrial]:
        return [trial for trial in self._study.get_trials(deepcopy, states) if trial.number not in self._hidden]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)
