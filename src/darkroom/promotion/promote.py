"""The gate's verdict on a version and its record, shared by `promote`, `rollback` and the first registration."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient

from darkroom.config import Config
from darkroom.errors import ModelError, OvertakenError, TrackingError
from darkroom.promotion.aliases import change_champion, reconcile_aliases
from darkroom.promotion.description import updated
from darkroom.promotion.evaluated_model import EvaluatedModel, load_evaluated_model
from darkroom.promotion.gate import Check, Verdict, evaluate_gate
from darkroom.promotion.history import Entry, Kind, State, effective
from darkroom.promotion.registry import Contender, contender, existing, find, set_tags
from darkroom.tracking.environment import user
from darkroom.tracking.runs import WEIGHTS_TAG
from darkroom.tracking.store import Store, does_not_answer
from darkroom.tracking.store import reason as reason_of
from darkroom.utils.console import messages
from darkroom.utils.files import sha256, write_json
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

# Below the model's own files in the store, a file for each time that it met the gate.
GATE_ARTIFACTS = "gate"


def promote_first(config: Config, workspace: Workspace, store: Store, version: str) -> None:
    """Make ``version`` the first champion, if it passes the gate. Raises what the gate raises."""
    name = config.registered_model
    entries, state = reconcile_aliases(store.client, name)
    if state.champion or effective(entries):
        return
    challenger = find(store.client, name, version)
    verdict = meet_gate(config, workspace, store.client, challenger, state, force=False)
    if not verdict.passed:
        messages.print(f"{name} has no champion yet, and version {version} does not pass the gate: {verdict.summary}")
        return
    entry = make_entry(Kind.PROMOTED, challenger, state, "the first that passes the gate")
    try:
        change_champion(store.client, name, record_verdict(store.client, name, challenger, verdict, entry), entries)
    except OvertakenError as problem:
        messages.print(problem.lines[0])


def meet_gate(
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
            # A model whose gate cannot be evaluated can be forced; the history then says so.
            lacking = Check("evidence", str(problem), "as it was registered", passed=False)
            return Verdict(str(challenger), str(champion) if champion else None, (lacking,))


def check_files(client: MlflowClient, model: Contender) -> None:
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


def make_entry(kind: Kind, target: Contender, state: State, reason: str) -> Entry:
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


def record_verdict(client: MlflowClient, name: str, challenger: Contender, verdict: Verdict, entry: Entry) -> Entry:
    """Record the verdict with the version: as a JSON artifact, as tags and in the description.

    Returns the entry with the URI and digest of the artifact.
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


@contextmanager
def before_any_change(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as problem:
        if isinstance(problem, TrackingError) or not does_not_answer(problem):
            raise
        raise TrackingError(
            f"MLflow's store stopped answering ({reason_of(problem)}); the champion of {name} was not changed: "
            "run the command again when it answers"
        ) from problem
