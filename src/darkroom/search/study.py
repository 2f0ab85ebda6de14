"""The Optuna study of a search, which can be resumed."""

import logging
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from darkroom.config import Config
from darkroom.data.cache import DatasetCard
from darkroom.errors import SearchError
from darkroom.search.attributes import AGAIN, FAILURE, INTERRUPTED, OPENED, PURPOSE
from darkroom.search.heartbeat import abandoned
from darkroom.search.space import starting_point
from darkroom.search.study_key import base_name, differences, study_purpose

# Which study a search takes: the one made for the same, if there is one; the latest, and no other; a new one.
Start = Literal["matching", "resume", "fresh"]


def open_study(storage: BaseStorage, config: Config, card: DatasetCard, start: Start = "matching") -> optuna.Study:
    """The study of a search, created if there is none to resume; older ones stay in the storage as they are.

    Trials that a killed search has left running are marked as interrupted, and will be tried again.

    Raises SearchError if the study to resume was made for something else.
    """
    optuna.logging.get_logger("optuna").setLevel(logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name=_name(storage, config, card, start),
        directions=directions(config),
        load_if_exists=True,
    )
    study.set_user_attr(PURPOSE, study_purpose(config, card))
    study.set_user_attr(OPENED, datetime.now(UTC).isoformat())
    point = starting_point(config)
    if point is not None and not study.get_trials(deepcopy=False):
        study.enqueue_trial(point)
    requeue(study, abandoned(study), config.search.space.flat())
    return study


def directions(config: Config) -> list[StudyDirection]:
    """Of the monitored metric and, if there are two objectives, of the cost."""
    monitored = StudyDirection.MAXIMIZE if config.train.monitor == "accuracy" else StudyDirection.MINIMIZE
    return [monitored] if config.search.second_objective == "none" else [monitored, StudyDirection.MINIMIZE]


def _name(storage: BaseStorage, config: Config, card: DatasetCard, start: Start) -> str:
    base = base_name(config, card)
    if start == "resume":
        return _latest(storage, config, card)
    # The second of a purpose is called base-2, and so on.
    matches = (re.fullmatch(rf"{re.escape(base)}(?:-(\d+))?", name) for name in optuna.get_all_study_names(storage))
    last = max((int(match[1] or 1) for match in matches if match), default=0)
    number = last + 1 if start == "fresh" else max(last, 1)
    return base if number == 1 else f"{base}-{number}"


def _latest(storage: BaseStorage, config: Config, card: DatasetCard) -> str:
    summaries = optuna.get_all_study_summaries(storage, include_best_trial=False)
    opened = [summary for summary in summaries if OPENED in summary.user_attrs]
    if not opened:
        raise SearchError("--resume: there is no study to resume; leave it out to start one")
    latest = max(opened, key=lambda summary: str(summary.user_attrs[OPENED]))
    other = differences(latest.user_attrs[PURPOSE], study_purpose(config, card))
    if other:
        raise SearchError(
            f"--resume: the latest study was made for something else ({'; '.join(other)}); "
            "set that back, or start a new one with --fresh"
        )
    return latest.study_name


def requeue(study: optuna.Study, lost: Iterable[FrozenTrial], keys: Collection[str]) -> None:
    """Mark running trials as interrupted, and have the same configurations tried again.

    ``keys`` are those of the space. Each step can be the last before a kill: what is done is not done twice.
    """
    for trial in lost:
        study.set_user_attr(INTERRUPTED, sorted({*interrupted(study), trial.number}))
        # Where the end came between two suggestions, the sampler will suggest all of them again alike.
        known = trial.system_attrs.get("fixed_params") or (trial.params if trial.params.keys() == set(keys) else None)
        if known and not any(each.user_attrs.get(AGAIN) == trial.number for each in study.get_trials(deepcopy=False)):
            # What the sampler keeps with its suggestions goes along; what a pruner does belongs to the epochs.
            kept = {key: value for key, value in trial.system_attrs.items() if not key.startswith("completed_rung")}
            again = optuna.trial.create_trial(
                state=TrialState.WAITING,
                system_attrs={**kept, "fixed_params": known},
                user_attrs={AGAIN: trial.number},
            )
            study.add_trial(again)
        study.tell(trial.number, state=TrialState.FAIL)


def end_trial(
    study: optuna.Study, trial: optuna.Trial, values: Sequence[float] | None, state: TrialState, reason: str | None
) -> FrozenTrial:
    """Tell a study what has become of a trial, with the reason if it failed."""
    if reason is not None:
        trial.set_user_attr(FAILURE, reason)
    return study.tell(trial, values, state)


def interrupted(study: optuna.Study) -> list[int]:
    """The numbers of the trials that were ended from outside, in a state that Optuna calls failed."""
    return list(study.user_attrs.get(INTERRUPTED, []))


def running_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials under way, as they are now."""
    return study.get_trials(states=(TrialState.RUNNING,))


def used_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: complete, pruned, or failed for a reason of their own."""
    hidden = set(interrupted(study))
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return [trial for trial in ended if trial.number not in hidden]


def monitored(trial: FrozenTrial) -> float | None:
    """The monitored metric of a trial, with or without a second objective; None if it has none."""
    return trial.values[0] if trial.values else None


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials, the best first; of two objectives those of the Pareto front, by the monitored metric."""
    if len(study.directions) == 1:
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    else:
        complete = sorted(study.best_trials, key=lambda trial: trial.number)
    sign = -1 if study.directions[0] is StudyDirection.MAXIMIZE else 1
    return sorted(complete, key=lambda trial: sign * trial.values[0])


def best_trial(study: optuna.Study) -> FrozenTrial:
    """The complete trial with the best monitored metric. Raises SearchError if no trial was completed."""
    best = ranked(study)
    if best:
        return best[0]
    used = used_trials(study)
    if not used:
        raise SearchError("search.minutes: elapsed before any trial completed; raise it")
    reasons = [trial.user_attrs[FAILURE] for trial in used if FAILURE in trial.user_attrs]
    raise SearchError(
        f"none of the {len(used)} trials completed; the first failed with: "
        f"{reasons[0] if reasons else 'all were pruned'}"
    )
