"""`darkroom history`: the log of promotions, refusals and rollbacks."""

import json
from dataclasses import asdict
from datetime import datetime

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.config import Config
from darkroom.promotion.aliases import reconcile_aliases
from darkroom.promotion.history import Entry, damage, effective
from darkroom.tracking.tracker import registry_client
from darkroom.tracking.tracking_uri import store_exists
from darkroom.utils.console import output, warn
from darkroom.workspace import Workspace


def run(config: Config, workspace: Workspace, *, as_json: bool) -> None:
    """Print every entry, the oldest first, after moving the aliases to the versions in the history.

    ``evidence`` is the beginning of the SHA-256 of what the gate found. Raises TrackingError.
    """
    name = config.registered_model
    # Looking must not make a store.
    entries = reconcile_aliases(registry_client(workspace), name)[0] if store_exists() else []
    for line in damage(entries):
        warn(f"{name}-history: {line}")
    counted = {entry.number for entry in effective(entries)}
    counts = {
        entry.number: not entry.is_of_deleted and (not entry.changes or entry.number in counted) for entry in entries
    }
    if as_json:
        listed = [asdict(entry) | {"counts": counts[entry.number]} for entry in entries]
        typer.echo(json.dumps({"model": name, "entries": listed}, ensure_ascii=False, indent=2))
        return
    if not entries:
        output.print(f"{name}: no history yet; `darkroom promote` begins it")
        return
    columns = ("entry", "when", "who", "what", "why", "evidence")
    table = Table(*columns, title=f"History of {name}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for entry in entries:
        what = _what(entry) + _mark(entry, counts=counts[entry.number])
        table.add_row(
            str(entry.number), _local(entry), entry.who, what, entry.reason, entry.evidence_sha256[:12] or "-"
        )
    output.print(table)


def _mark(entry: Entry, *, counts: bool) -> str:
    if entry.is_of_deleted:
        return " (of a model that was deleted)"
    return "" if counts else " (overtaken: did not count)"


def _local(entry: Entry) -> str:
    return f"{datetime.fromisoformat(entry.when).astimezone():%Y-%m-%d %H:%M}"


def _what(entry: Entry) -> str:
    return f"{entry.kind}: " + (f"{entry.before or 'none'} → {entry.version}" if entry.changes else entry.version)
