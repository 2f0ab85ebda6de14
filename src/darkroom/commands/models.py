"""`darkroom models`: the registered versions."""

from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from darkroom.config import Config
from darkroom.errors import printable
from darkroom.promotion.aliases import reconcile_aliases
from darkroom.promotion.registry import (
    CHAMPION,
    REGISTERED_BY_TAG,
    VERDICT_TAG,
    ModelVersion,
    about_deleted,
    versions,
    was_deleted,
)
from darkroom.tracking.runs import FINGERPRINT_TAG
from darkroom.tracking.tracker import registry_client
from darkroom.tracking.tracking_uri import register_hint, store_exists
from darkroom.utils.console import output
from darkroom.workspace import Workspace

# What another program did not write.
UNKNOWN = "-"


def run(config: Config, workspace: Workspace) -> None:
    """Print the versions of the registered model, the newest first, with the aliases moved to the history's versions.

    Raises TrackingError or MlflowException if the store cannot be reached.
    """
    name = config.registered_model
    # Looking must not make a store.
    client = registry_client(workspace) if store_exists() else None
    if client:
        reconcile_aliases(client, name)
    found = versions(client, name) if client else []
    if client and was_deleted(client, name):
        output.print(about_deleted(name))
        return
    if not found:
        output.print(f"{name}: no version registered yet; {register_hint(workspace)}")
        return
    # Two lines a version, so that all of it fits into 80 columns.
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=f"Registered as {name}", title_justify="left")
    for heading in ("version", "aliases", "test accuracy\n95 % interval", "data", "registered\nby"):
        table.add_column(Text(heading), no_wrap=True)
    table.add_column("gate")
    for version in found:
        table.add_row(*_row(version))
    output.print(table)
    if not any(CHAMPION in version.aliases for version in found):
        output.print("None of them is champion; `darkroom promote VERSION` makes one that passes the gate champion.")


def _row(version: ModelVersion) -> list[str | Text]:
    tags = version.tags
    when = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).astimezone()
    return [
        str(version.version),
        _lines(*sorted(version.aliases)),
        _lines(_share(tags.get("test.accuracy")), _interval(tags)),
        tags.get(FINGERPRINT_TAG, UNKNOWN)[:12],
        _lines(f"{when:%Y-%m-%d}", tags.get(REGISTERED_BY_TAG, UNKNOWN)),
        tags.get(VERDICT_TAG, "not judged"),
    ]


def _lines(*lines: str) -> Text:
    return Text("\n".join(map(printable, lines)))


def _interval(tags: dict[str, str]) -> str:
    low, high = tags.get("test.accuracy_low"), tags.get("test.accuracy_high")
    return f"{_share(low)} to {_share(high)}" if low and high else ""


def _share(value: str | None) -> str:
    return f"{float(value):.4f}" if value else UNKNOWN
