"""Change the champion atomically: an interruption leaves either the old champion or the new one.

One call to the registry decides: the one that appends to the history. Everything before it can be discarded. Everything
after it (moving the aliases) is repeated by the next command that finds it undone. Guaranteed on every store that
MLflow keeps in a database: of several changes that were decided on the same champion, one counts, and the aliases
follow the history. Not guaranteed: between the two steps the alias still names the previous champion, until it is
moved or, if the process dies there, until the next command. Nothing prevents a user from moving an alias by hand; the
next command moves it back.
"""

from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from darkroom.errors import OvertakenError, TrackingError
from darkroom.promotion.history import ATTEMPTS, Entry, History, State, effective, state_of
from darkroom.promotion.registry import BEATEN, CHAMPION, HISTORY, PREVIOUS, UNKNOWN, existing
from darkroom.tracking.runs import WEIGHTS_TAG
from darkroom.tracking.store import does_not_answer, reason
from darkroom.utils.console import warn


def change_champion(client: MlflowClient, name: str, entry: Entry, entries: Sequence[Entry]) -> Entry:
    """Append an entry that was decided on ``entries``, and move the aliases if it counts. Returns it as written.

    Raises OvertakenError if another change came first, and TrackingError if the store stops responding; the message
    says which steps were done.
    """
    history = History(client, name)
    try:
        written = history.append(entry, entries)
    except Exception as problem:
        if not does_not_answer(problem):
            raise
        raise TrackingError(
            f"MLflow's store stopped answering ({reason(problem)}) while the history of {name} was being written; "
            "no alias was moved: when it answers, `darkroom history` shows whether the entry is there, "
            "and finishes what is"
        ) from problem
    try:
        now, _, _ = _follow(client, name)
        history.describe(now)
    except Exception as problem:
        if isinstance(problem, TrackingError) or not does_not_answer(problem):
            raise
        raise TrackingError(
            f"MLflow's store stopped answering ({reason(problem)}) after entry {written.number} of the history of "
            f"{name} was written ({written.sentence()}); the aliases may not have moved yet: when it answers, any of "
            "`darkroom history`, `models` and `promote` moves them"
        ) from problem
    counted = effective(now)
    if entry.changes and written.number not in {each.number for each in counted}:
        first = next(each for each in counted if each.number > written.after)
        raise OvertakenError(
            f"{name}: {first.sentence()}, while the gate ran (history, entry {first.number}); "
            "nothing was changed; run the command again to be judged against that one"
        )
    return written


def reconcile_aliases(client: MlflowClient, name: str) -> tuple[list[Entry], State]:
    """Move the aliases to the versions in the history, if needed, and say so. Returns the history and its state.

    Before there is a history, the aliases are the state. Raises TrackingError if the history is not of these
    versions.
    """
    entries, state, found = _follow(client, name)
    if found is not None:
        named = f"version {found}" if found else "no version"
        warn(
            f"{name}: the alias champion named {named}, but entry {state.number} of the history says "
            f"version {state.champion}, which it names now"
        )
    return entries, state


def _follow(client: MlflowClient, name: str) -> tuple[list[Entry], State, str | None]:
    """Move the aliases. Also returns the version that champion named, if it had to be moved."""
    history, found = History(client, name), None
    for attempt in range(ATTEMPTS):
        entries, model = history.read_and_model()
        aliases = {alias: str(version) for alias, version in model.aliases.items()} if model else {}
        changes = effective(entries)
        if not changes:
            return entries, State(aliases.get(CHAMPION, ""), aliases.get(PREVIOUS, "")), None
        wanted = state_of(entries)
        # Previous first: a version that is no longer champion can always be gone back to.
        moves = {
            alias: version
            for alias, version in ((PREVIOUS, wanted.previous), (CHAMPION, wanted.champion))
            if aliases.get(alias, "") != version
        }
        if not moves:
            return entries, wanted, found
        _check_weights(client, name, changes[-1])
        try:
            for alias, version in moves.items():
                if not _move(client, name, alias, version):
                    warn(f"{name} version {version}, {alias} by the history, was deleted from the registry")
                elif alias == CHAMPION:
                    found = aliases.get(CHAMPION, "")
        except MlflowException as problem:
            if problem.error_code != BEATEN or attempt == ATTEMPTS - 1:
                raise
            continue
        # What was true when it was read may not be so any more: if the history has grown, they are moved again.
        if history.read()[-1].number == entries[-1].number:
            break
    return entries, wanted, found


def _check_weights(client: MlflowClient, name: str, latest: Entry) -> None:
    version = existing(client, name, latest.champion)
    if version is not None and version.tags.get(WEIGHTS_TAG, "") != latest.weights_sha256:
        raise TrackingError(
            f"{name} version {latest.champion} is not the model in its history (weights "
            f"{version.tags.get(WEIGHTS_TAG, 'unknown')[:12]}, expected {latest.weights_sha256[:12]}): two registries "
            f"are mixed up; set MLFLOW_TRACKING_URI to the right one, or delete {name}{HISTORY} to begin a new history"
        )


def _move(client: MlflowClient, name: str, alias: str, version: str) -> bool:
    """Whether the alias could be moved: not to a version that was deleted."""
    try:
        if version:
            client.set_registered_model_alias(name, alias, version)
        else:
            client.delete_registered_model_alias(name, alias)
    except MlflowException as problem:
        # A server with users lets everybody set an alias who may promote, and few remove one: it stays for one of them.
        is_refused = not version and problem.error_code == "PERMISSION_DENIED"
        if not is_refused and problem.error_code not in UNKNOWN:
            raise
        return is_refused
    return True
