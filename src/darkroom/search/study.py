"""The Optuna study: resumable, with every trial in a state that is true."""

import logging
from collections.abc import Collection, Iterable
from pathlib import Path

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from darkroom.config import Config
from darkroom.errors import SearchError
from darkroom.search.space import starting_point

# User attribute of a study: the numbers of the trials that were ended from outside.
INTERRUPTED = "interrupted"
# User attributes of a trial: why it failed, and the interrupted trial that it stands for.
FAILURE = "failure"
AGAIN = "again"
# Trials drawn at random before TPE models them, and completed before any is pruned.
STARTUP_TRIALS = 5


def open_study(path: Path, key: str, config: Config) -> optuna.Study:
    """The study ``key`` in the journal file ``path``, made if it is not there.

    Trials that a killed search has left running are marked failed; they will be suggested again alike.

    Raises SearchError if the file is damaged.
    """
    optuna.logging.get_logger("optuna").setLevel(logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_torn_line(path)
    try:
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name=key,
            direction="maximize" if config.train.monitor == "accuracy" else "minimize",
            pruner=_pruner(config),
            load_if_exists=True,
        )
    except (ValueError, LookupError) as problem:
        raise SearchError(f"{path}: damaged ({problem}); delete it to start the search anew") from None
    if not study.get_trials(deepcopy=False):
        start = starting_point(config)
        if start is not None:
            study.enqueue_trial(start)
    requeue(study, study.get_trials(states=(TrialState.RUNNING,)), config.search.space.flat())
    return study


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that was not written to its end: Optuna would append to it and fail from then on."""
    if not path.is_file():
        return
    with path.open("rb+") as journal:
        content = journal.read()
        journal.truncate(content.rfind(b"\n") + 1)


def _pruner(config: Config) -> BasePruner:
    if config.search.pruner == "none":
        return NopPruner()
    epochs = config.search.epochs or config.train.epochs
    return MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=max(1, epochs // 5))


def requeue(study: optuna.Study, lost: Iterable[FrozenTrial], keys: Collection[str]) -> None:
    """Mark running trials as interrupted, and have the same configurations tried again.

    ``keys`` are those of the space. Each step can be the last before a kill: what is done is not done twice.
    """
    for trial in lost:
        study.set_user_attr(INTERRUPTED, sorted({*study.user_attrs.get(INTERRUPTED, []), trial.number}))
        # Where the end came between two suggestions, the sampler will suggest all of them again alike.
        known = trial.system_attrs.get("fixed_params") or (trial.params if trial.params.keys() == set(keys) else None)
        waiting = study.get_trials(deepcopy=False)
        if known and not any(other.user_attrs.get(AGAIN) == trial.number for other in waiting):
            study.enqueue_trial(known, user_attrs={AGAIN: trial.number})
        study.tell(trial.number, state=TrialState.FAIL)


def used_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: complete, pruned, or failed for a reason of their own."""
    interrupted = study.user_attrs.get(INTERRUPTED, [])
    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return [trial for trial in ended if trial.number not in interrupted]


def best_trial(study: optuna.Study) -> FrozenTrial:
    """The complete trial with the best value. Raises SearchError if no trial was completed."""
    if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return study.best_trial
    reasons = [trial.user_attrs[FAILURE] for trial in used_trials(study) if FAILURE in trial.user_attrs]
    raise SearchError(
        f"none of the {len(used_trials(study))} trials was completed; the first failed with: "
        f"{reasons[0] if reasons else 'all were pruned'}"
    )
