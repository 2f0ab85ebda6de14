"""All that is used of Optuna without being part of its public interface.

Private names may change with any release: before pyproject.toml allows the next major version, run the tests with it.
"""

import json
import os
import time
from bisect import bisect
from collections.abc import Collection
from copy import copy
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.pruners import HyperbandPruner
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


def storage_of(study: optuna.Study) -> BaseStorage:
    return study._storage


def has_heartbeat(study: optuna.Study) -> bool:
    """Whether the storage of a study records heartbeats, as databases do and journals do not."""
    return isinstance(study._storage, BaseHeartbeat)


def record_heartbeat(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> None:
    """Record that a running trial is being trained. Raises StorageInternalError if the database fails."""
    if isinstance(study._storage, BaseHeartbeat):
        study._storage.record_heartbeat(trial._trial_id)


def without_heartbeat(study: optuna.Study) -> set[int]:
    """The numbers of the running trials whose last heartbeat is older than the grace period."""
    storage = study._storage
    if not isinstance(storage, BaseHeartbeat):
        return set()
    stale = set(storage._get_stale_trial_ids(study._study_id))
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return {trial.number for trial in running if trial._trial_id in stale}


class JournalFile(JournalFileBackend):
    """A journal that waits for the disk once a second at most: for each line it took as long as a small trial.

    A process that is killed loses nothing by it, a machine without power what was written since.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._on_disk = 0.0

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with get_lock_file(self._lock), Path(self._file_path).open("ab") as file:
            file.write(lines.encode())
            file.flush()
            if time.monotonic() - self._on_disk >= 1:
                os.fsync(file.fileno())
                self._on_disk = time.monotonic()


def with_failures_last(study: optuna.Study, interrupted: Collection[int]) -> optuna.Study:
    """A study in which a model of the trials sees failures as the worst trials, and no ``interrupted`` ones."""
    return cast(optuna.Study, _JudgedStudy(study, interrupted))


class _JudgedStudy:
    """A study in which a model of the trials sees failures as completed, and no better than the worst.

    So it does pruned trials, with their last value, if it would leave them out. Optuna shows failures to no model and
    pruned trials not to a Gaussian process. Where training diverged above a learning rate, 28 of 40 trials of TPE and
    33 of a Gaussian process then failed, 14 and 2 this way.
    """

    def __init__(self, study: optuna.Study, interrupted: Collection[int]) -> None:
        self._study = study
        self._interrupted = interrupted

    def _get_trials(self, deepcopy: bool, states: Collection[TrialState], use_cache: bool) -> list[FrozenTrial]:
        found = self._study._get_trials(deepcopy, use_cache=use_cache)
        trials = [trial for trial in found if trial.number not in self._interrupted]
        values = list(zip(*[trial.values for trial in trials if trial.values], strict=True))
        ends = [min if direction is StudyDirection.MAXIMIZE else max for direction in self._study.directions]
        worst = [end(each) for end, each in zip(ends, values, strict=True)] if values else None
        seen = []
        for trial in trials:
            if trial.state in states:
                seen.append(trial)
            elif trial.state in (TrialState.PRUNED, TrialState.FAIL) and worst:
                ended = copy(trial)
                ended.state, ended.values = TrialState.COMPLETE, trial.values or worst
                seen.append(ended)
        return seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)


class Hyperband(HyperbandPruner):
    """Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 18, 2018.

    Optuna draws a trial's bracket by its number; here by how many trials that count come before it.
    """

    def __init__(self, epochs: int, interrupted: Collection[int]) -> None:
        super().__init__(max_resource=epochs)
        self._interrupted = sorted(interrupted)

    def _get_bracket_id(self, study: optuna.Study, trial: FrozenTrial) -> int:
        if trial.number in self._interrupted:
            return -1  # no bracket's
        counted = copy(trial)
        counted.number -= bisect(self._interrupted, trial.number)
        return super()._get_bracket_id(study, counted)
