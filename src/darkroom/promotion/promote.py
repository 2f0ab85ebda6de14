"""`darkroom promote` and `darkroom rollback`: what they ask, decide, record and say."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient
from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.config import Config
from darkroom.errors import ModelError, OvertakenError, TrackingError
from darkroom.promotion.description import updated
from darkroom.promotion.evaluated_model import EvaluatedModel, load_evaluated_model
from darkroom.promotion.gate import Check, Verdict, evaluate_gate
from darkroom.promotion.history import Entry, Kind, State, effective
from darkroom.promotion.registry import CHALLENGER, Contender, contender, existing, find, set_tags
from darkroom.promotion.transaction import change_champion, reconcile_aliases
from darkroom.promotion.working_tree import REGISTER, resolve, version_of, working_tree_digest
from darkroom.tracking.environment import user
from darkroom.tracking.runs import WEIGHTS_TAG
from darkroom.tracking.store import Store, does_not_answer
from darkroom.tracking.store import reason as reason_of
from darkroom.tracking.tracker import registry_client
from darkroom.utils.console import messages, output, warn
from darkroom.utils.files import sha256, write_json
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

# Below the model's own files in the store, a file for each time that it met the gate.
GATE_ARTIFACTS = "gate"


def run(config: Config, workspace: Workspace, reference: str, *, dry_run: bool, force: bool, reason: str) -> bool:
    """Hold the model that ``reference`` means against the gate, and make it champion if it passes.

    With ``force`` also if it does not; with ``dry_run`` nothing is changed and nothing recorded. Returns whether it
    is champion now, or would be. Raises TrackingError.
    """
    client, name = registry_client(workspace), config.registered_model
    with _before_any_change(name):
        entries, state = reconcile_aliases(client, name)
        challenger = resolve(client, name, reference, workspace)
        if challenger.version is None:
            raise TrackingError(
                f"{reference}: a run, but only a version can become champion; `darkroom register` makes one of a model"
            )
        _warn_of_another(client, name, challenger, workspace)
        if challenger.version == state.champion:
            _check_files(client, challenger)
            messages.print(f"promote: {name} version {challenger.version} is champion already")
            return True
        verdict = _meet_gate(config, workspace, client, challenger, state, force=force)
    output.print(_table(verdict))
    if verdict.is_of_other_data and not (verdict.passed or force):
        messages.print(
            f"promote: the champion is a model of other data; `darkroom data-diff champion {challenger.version}` shows "
            "what changed. Where these data take the place of the champion's, promote with --force and a --reason"
        )
    kind = Kind.PROMOTED if verdict.passed else Kind.FORCED if force else Kind.REFUSED
    entry = _entry(kind, challenger, state, reason or verdict.summary)
    if dry_run:
        messages.print(f"promote: {name} {entry.sentence()} (not done: --dry-run)")
        return entry.changes
    with _before_any_change(name):
        entry = _record(client, name, challenger, verdict, entry)
    entry = change_champion(client, name, entry, entries)
    messages.print(f"promote: {name} {entry.sentence()} (history, entry {entry.number})")
    return entry.changes


def _warn_of_another(client: MlflowClient, name: str, challenger: Contender, workspace: Workspace) -> None:
    """Say so if the model in the working tree is another one: another training may have registered the challenger."""
    if CHALLENGER not in challenger.aliases:
        return
    try:
        weights = working_tree_digest(workspace)
    except ModelError:
        return  # there is none, or not to its end
    if challenger.tags.get(WEIGHTS_TAG) != weights:
        here = version_of(client, name, weights)
        known = f"version {here.version}: `darkroom promote here`" if here else f"not registered: {REGISTER}"
        warn(f"{name} version {challenger.version} is not the model in the working tree, which is {known}")


def roll_back(config: Config, workspace: Workspace, reason: str) -> None:
    """Make the champion before the present one champion again. Raises TrackingError if there is none."""
    client, name = registry_client(workspace), config.registered_model
    with _before_any_change(name):
        entries, state = reconcile_aliases(client, name)
        if not state.previous:
            raise TrackingError(
                f"{name}: no previous champion to go back to; `darkroom history` shows those there were"
            )
        target = find(client, name, state.previous)
        _check_files(client, target)
        # What was previous then is so again: to roll back twice goes back two champions.
        then = next((each for each in reversed(effective(entries)) if each.champion == target.version), None)
        entry = replace(
            _entry(Kind.ROLLED_BACK, target, state, reason),
            previous=then.previous if then else "",
        )
    entry = change_champion(client, name, entry, entries)
    messages.print(f"rollback: {name} {entry.sentence()} (history, entry {entry.number})")


def promote_first(config: Config, workspace: Workspace, store: Store, version: str) -> None:
    """Make ``version`` the champion where there never was one, if it passes the gate. Raises what the gate raises."""
    name = config.registered_model
    entries, state = reconcile_aliases(store.client, name)
    if state.champion or effective(entries):
        return
    challenger = find(store.client, name, version)
    verdict = _meet_gate(config, workspace, store.client, challenger, state, force=False)
    if not verdict.passed:
        messages.print(f"{name} has no champion yet, and version {version} does not pass the gate: {verdict.summary}")
        return
    entry = _entry(Kind.PROMOTED, challenger, state, "the first that passes the gate")
    try:
        change_champion(store.client, name, _record(store.client, name, challenger, verdict, entry), entries)
    except OvertakenError as problem:
        messages.print(problem.lines[0])


def _meet_gate(
    config: Config, workspace: Workspace, client: MlflowClient, challenger: Contender, state: State, *, force: bool
) -> Verdict:
    serving = existing(client, config.registered_model, state.champion) if state.champion else None
    champion = contender(serving) if serving else None
    with scratch_directory() as place:
        try:
            return evaluate_gate(
                config.gate,
                load_evaluated_model(client, challenger, place),
                _gather_champion(client, champion, place, force=force) if champion else None,
                bins=config.evaluate.calibration_bins,
                cache=workspace.processed(config.dataset.name),
            )
        except (ModelError, TrackingError) as problem:
            if not force:
                raise
            # What cannot be judged can be forced; the history then says that it was not judged.
            lacking = Check("evidence", str(problem), "as it was registered", passed=False)
            return Verdict(str(challenger), str(champion) if champion else None, (lacking,))


def _check_files(client: MlflowClient, model: Contender) -> None:
    """Raises TrackingError if the store does not hold a model as it was registered: it could not serve."""
    with scratch_directory() as place:
        load_evaluated_model(client, model, place)


def _gather_champion(client: MlflowClient, champion: Contender, place: Path, *, force: bool) -> EvaluatedModel:
    try:
        return load_evaluated_model(client, champion, place)
    except TrackingError as problem:
        if force:
            raise
        raise TrackingError(
            f"no champion to compare with: {problem}; else `darkroom promote --force --reason …` makes another version "
            "champion without a comparison"
        ) from None


def _entry(kind: Kind, target: Contender, state: State, reason: str) -> Entry:
    changes = kind is not Kind.REFUSED
    return Entry(
        kind=kind,
        version=str(target.version),
        weights_sha256=target.tags.get(WEIGHTS_TAG, ""),
        run_id=target.run_id,
        who=user(),
        before=state.champion,
        champion=str(target.version) if changes else state.champion,
        previous=state.champion if changes else state.previous,
        reason=reason.strip(),
    )


def _record(client: MlflowClient, name: str, challenger: Contender, verdict: Verdict, entry: Entry) -> Entry:
    """Write what the gate found on the version: as a JSON artifact, as tags and as the description that its page shows.

    Returns the entry that names it.
    """
    with scratch_directory() as directory:
        path = directory / f"{entry.id}.json"
        write_json(path, verdict.as_json())
        client.log_model_artifact(challenger.model_id, str(path), GATE_ARTIFACTS)
        written = replace(
            entry, evidence=f"{challenger.uri}/{GATE_ARTIFACTS}/{path.name}", evidence_sha256=sha256(path)
        )
    set_tags(client, name, str(challenger.version), verdict.tags())
    description = updated(challenger.description, verdict=verdict.as_markdown())
    client.update_model_version(name, str(challenger.version), description)
    return written


def _table(verdict: Verdict) -> Table:
    against = f"against {verdict.champion}, the champion" if verdict.champion else "no champion yet"
    title = f"The gate: {verdict.challenger}, {against}"
    table = Table(
        "rule", "found", "required", "verdict", title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for check in verdict.checks:
        table.add_row(check.name, check.value, check.required, check.verdict)
    return table


@contextmanager
def _before_any_change(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as problem:
        if isinstance(problem, TrackingError) or not does_not_answer(problem):
            raise
        raise TrackingError(
            f"MLflow's store stopped answering ({reason_of(problem)}); the champion of {name} was not changed: "
            "run the command again when it answers"
        ) from problem
