"""`darkroom data-diff`: the difference between the data of two models, or of a model and the data preprocessed here."""

import json
from dataclasses import dataclass
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.config import Config
from darkroom.data.cache import NAMES, DatasetCard
from darkroom.data.difference import Listing, changed_classes, difference
from darkroom.promotion.evaluated_model import load_listing
from darkroom.promotion.registry import find
from darkroom.promotion.working_tree import HERE
from darkroom.tracking.runs import FINGERPRINT_TAG
from darkroom.tracking.tracker import registry_client
from darkroom.utils.console import output
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

KINDS = ("added", "removed", "relabeled", "moved")
# Of many classes, or pairs of classes, the most frequent are shown; --json shows all.
SHOWN_KINDS = 10


@dataclass(frozen=True)
class _Side:
    """One of the two datasets: its owner, its fingerprint, and its images."""

    name: str
    fingerprint: str
    listing: Listing


def run(config: Config, workspace: Workspace, a: str, b: str, *, as_json: bool) -> None:
    """Print what was added, removed, relabeled and moved between splits from the data of ``a`` to those of ``b``.

    Each is a version, an alias, the id of a run, or "here": the dataset that is preprocessed in this project. Raises
    TrackingError or DataError if there is no list of its images.
    """
    first, second = (_read(config, workspace, each) for each in (a, b))
    found = difference(first.listing, second.listing).as_json()
    sides = {key: {"name": side.name, "fingerprint": side.fingerprint} for key, side in (("a", first), ("b", second))}
    if as_json:
        typer.echo(json.dumps(sides | found, ensure_ascii=False, indent=2))
    else:
        _show(first, second, found)


def _read(config: Config, workspace: Workspace, reference: str) -> _Side:
    if reference == HERE:
        cache = workspace.processed(config.dataset.name)
        return _Side(HERE, DatasetCard.read(cache).fingerprint, Listing.read(cache / NAMES))
    client = registry_client(workspace)
    model = find(client, config.registered_model, reference)
    with scratch_directory() as place:
        listing = load_listing(model, place)
    return _Side(str(model), model.tags.get(FINGERPRINT_TAG, ""), listing)


def _show(a: _Side, b: _Side, found: dict[str, Any]) -> None:
    counts = {kind: found[kind]["count"] for kind in KINDS}
    images = found["images"]
    output.print(
        f"From {a.name} ({images['a']:,} images) to {b.name} ({images['b']:,}): {counts['added']:,} added, "
        f"{counts['removed']:,} removed, {counts['relabeled']:,} relabeled, {counts['moved']:,} moved between splits"
    )
    if changes := changed_classes(a.listing.classes, b.listing.classes):
        output.print(f"Classes: {changes}")
    if any(counts.values()):
        table = Table("what", "which", "images", "for example", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for kind in KINDS:
            rows = list(found[kind]["kinds"].items())
            examples = ", ".join(found[kind]["examples"])
            for number, (which, count) in enumerate(rows[:SHOWN_KINDS]):
                table.add_row("" if number else kind, which, f"{count:,}", "" if number else examples)
            if len(rows) > SHOWN_KINDS:
                rest = sum(count for _, count in rows[SHOWN_KINDS:])
                table.add_row("", f"and {len(rows) - SHOWN_KINDS:,} more", f"{rest:,}", "")
        output.print(table)
    elif a.fingerprint != b.fingerprint:
        output.print("The images, their classes and splits are the same: they are preprocessed otherwise")
    output.print(f"{found['comparable_test_images']:,} images are in both test splits with the same class")
