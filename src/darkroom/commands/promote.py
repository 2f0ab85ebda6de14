"""`darkroom promote`: make a version champion if it passes the gate."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.config import Config
from darkroom.errors import TrackingError
from darkroom.promotion.aliases import change_champion, reconcile_aliases
from darkroom.promotion.gate import Verdict
from darkroom.promotion.history import Kind
from darkroom.promotion.promote import before_any_change, check_files, make_entry, meet_gate, record_verdict
from darkroom.promotion.working_tree import resolve, warn_of_another
from darkroom.tracking.tracker import registry_client
from darkroom.utils.console import messages, output
from darkroom.workspace import Workspace


def run(config: Config, workspace: Workspace, reference: str, *, dry_run: bool, force: bool, reason: str) -> bool:
    """Evaluate the gate for the model ``reference``, and make it champion if it passes.

    With ``force``, make it champion even if it fails; with ``dry_run``, change and record nothing. Returns whether it
    is champion now, or would be. Raises TrackingError.
    """
    client, name = registry_client(workspace), config.registered_model
    with before_any_change(name):
        entries, state = reconcile_aliases(client, name)
        challenger = resolve(client, name, reference, workspace)
        if challenger.version is None:
            raise TrackingError(
                f"{reference}: a run, but only a version can become champion; `darkroom register` makes one of a model"
            )
        warn_of_another(client, name, challenger, workspace)
        if challenger.version == state.champion:
            check_files(client, challenger)
            messages.print(f"promote: {name} version {challenger.version} is champion already")
            return True
        verdict = meet_gate(config, workspace, client, challenger, state, force=force)
    output.print(_table(verdict))
    if verdict.is_of_other_data and not (verdict.passed or force):
        messages.print(
            f"promote: the champion is a model of other data; `darkroom data-diff champion {challenger.version}` shows "
            "what changed. Where these data take the place of the champion's, promote with --force and a --reason"
        )
    kind = Kind.PROMOTED if verdict.passed else Kind.FORCED if force else Kind.REFUSED
    entry = make_entry(kind, challenger, state, reason or verdict.summary)
    if dry_run:
        messages.print(f"promote: {name} {entry.sentence()} (not done: --dry-run)")
        return entry.changes
    with before_any_change(name):
        entry = record_verdict(client, name, challenger, verdict, entry)
    entry = change_champion(client, name, entry, entries)
    messages.print(f"promote: {name} {entry.sentence()} (history, entry {entry.number})")
    return entry.changes


def _table(verdict: Verdict) -> Table:
    against = f"against {verdict.champion}, the champion" if verdict.champion else "no champion yet"
    title = f"The gate: {verdict.challenger}, {against}"
    table = Table(
        "rule", "found", "required", "verdict", title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for check in verdict.checks:
        table.add_row(check.name, check.value, check.required, check.verdict)
    return table
