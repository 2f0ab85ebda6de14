"""`darkroom rollback`: make the previous champion champion again."""

from dataclasses import replace

from darkroom.config import Config
from darkroom.errors import TrackingError
from darkroom.promotion.aliases import change_champion, reconcile_aliases
from darkroom.promotion.history import Kind, effective
from darkroom.promotion.promote import before_any_change, check_files, make_entry
from darkroom.promotion.registry import find
from darkroom.tracking.tracker import registry_client
from darkroom.utils.console import messages
from darkroom.workspace import Workspace


def run(config: Config, workspace: Workspace, reason: str) -> None:
    """Make the previous champion champion again. Raises TrackingError if there is none."""
    client, name = registry_client(workspace), config.registered_model
    with before_any_change(name):
        entries, state = reconcile_aliases(client, name)
        if not state.previous:
            raise TrackingError(
                f"{name}: no previous champion to go back to; `darkroom history` shows those there were"
            )
        target = find(client, name, state.previous)
        check_files(client, target)
        # What was previous then is so again: to roll back twice goes back two champions.
        then = next((each for each in reversed(effective(entries)) if each.champion == target.version), None)
        entry = replace(
            make_entry(Kind.ROLLED_BACK, target, state, reason),
            previous=then.previous if then else "",
        )
    entry = change_champion(client, name, entry, entries)
    messages.print(f"rollback: {name} {entry.sentence()} (history, entry {entry.number})")
