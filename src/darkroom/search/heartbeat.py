"""Whether a running trial belongs to a search that is still running or to one that was killed.

On this machine the process shows whether its search is running. From other machines a database receives a heartbeat for
each running trial, and a journal is locked by whoever searches in it.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from darkroom.search.attributes import OWNER
from darkroom.search.optuna_internals import has_heartbeat, record_heartbeat, storage_of, without_heartbeat
from darkroom.search.storage import GRACE_SECONDS, HEARTBEAT_SECONDS
from darkroom.utils.process_id import is_gone, is_of_this_machine, this_process


def ask_trial(study: optuna.Study, kinds: dict[str, BaseDistribution]) -> optuna.Trial:
    """The next trial of a study, marked as one that this process has trained."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Heartbeat of storage")  # `heartbeats` is what Optuna would have done
        trial = study.ask(kinds)
    trial.set_user_attr(OWNER, this_process())
    record_heartbeat(study, trial)
    return trial


@contextmanager
def heartbeats(study: optuna.Study) -> Iterator[None]:
    """Let a database hear every while that this process has its trials trained, until the block ends."""
    if not has_heartbeat(study):
        yield
        return
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            # A database that does not answer now may do so in time; whoever waits for it says what is wrong.
            with suppress(StorageInternalError):
                for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                    if trial.user_attrs.get(OWNER) == this_process():
                        record_heartbeat(study, trial)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def abandoned(study: optuna.Study) -> list[FrozenTrial]:
    """The running trials whose search has ended without ending them, this process's own earlier one among them.

    A search asks before its first trial, not later: what another one has trained meanwhile is none of these.
    """
    silent = without_heartbeat(study)
    oldest = datetime.now() - timedelta(seconds=GRACE_SECONDS)  # noqa: DTZ005 - as Optuna writes the time

    def is_abandoned(trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(OWNER)
        if owner and is_of_this_machine(owner):
            return owner == this_process() or is_gone(owner)
        if not has_heartbeat(study):
            return getattr(storage_of(study), "is_alone", True)
        # Its search was killed before it could claim the trial, or has just asked for it.
        is_old = trial.datetime_start is not None and trial.datetime_start < oldest
        return trial.number in silent or (owner is None and is_old)

    return [trial for trial in study.get_trials(states=(TrialState.RUNNING,)) if is_abandoned(trial)]
