"""`darkroom inbox`: what servers have kept, which of it to label, and what people labeled."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import typer

from darkroom.audit.page.write import current_user
from darkroom.config import Config
from darkroom.data.cache import DatasetCard
from darkroom.datasets.inbox import read_accepted, table_of
from darkroom.errors import ConfigError, ModelError, counted
from darkroom.inbox.acceptance import accept, check_dataset, check_depth, read_decisions
from darkroom.inbox.judgment import Judged, choose, judge
from darkroom.inbox.page.write import Asked, write_page
from darkroom.inbox.place import find_inbox
from darkroom.inbox.store import Kept, locked, read_inbox, remove
from darkroom.models.classifier import Classifier
from darkroom.models.files import load_classifier
from darkroom.utils.console import messages, output, warn
from darkroom.utils.units import MEGABYTE
from darkroom.workspace import Workspace

PAGE = "index.html"
# Listed in the terminal; the page has all.
LISTED = 20


def run(config: Config, workspace: Workspace, *, images: int, as_json: bool) -> None:
    """List the inbox, and write the page to label the ``images`` that teach most: reports/inbox/index.html.

    Raises ConfigError if there is no inbox, or it is in the dataset, DataError if its pictures cannot join that,
    ModelError or CacheError if there is no model of it.
    """
    place = _place(config)
    source = check_dataset(config.dataset)
    kept, damaged = read_inbox(place)
    if damaged:
        warn(f"{place}: {counted(len(damaged), 'file')} left out that the server did not write, such as {damaged[0]}")
    if not kept:
        messages.print(f"inbox: {place} is empty")
        if as_json:
            _print_json([], [])
        return
    classifier, card = _model(workspace, config)
    check_depth(card)
    table = table_of(source)
    accepted = [table.parent / line.file for line in read_accepted(table)] if table.is_file() else []
    judged = judge(kept, accepted, classifier, card, workspace.processed(config.dataset.name))
    asked = [_ask(judged, row, card.classes) for row in choose(judged, images)]
    settled = {judged.kept[row].file for row in np.flatnonzero(judged.settled).tolist()}
    if settled:
        remove(place, [each for each in kept if each.file in settled])
    kept = [each for each in kept if each.file not in settled]
    target = workspace.report("inbox") / PAGE
    write_page(target, asked, classes=card.classes, who=current_user(workspace.root), total=len(kept))
    if as_json:
        _print_json(kept, asked)
        return
    _list(place, kept, judged, asked)
    messages.print(
        f"inbox: {counted(len(asked), 'picture')} to label, those first that teach most: open {target}, save, and run "
        "`darkroom inbox --accept FILE`"
    )


def run_accept(config: Config, workspace: Workspace, path: Path) -> None:
    """Move the pictures that people have labeled into the dataset, and remove those they discarded.

    Raises ConfigError if there is no inbox, or it is in the dataset, and DataError, before anything is changed, if a
    decision cannot be carried out.
    """
    place = _place(config)
    source = check_dataset(config.dataset)
    card = DatasetCard.read(workspace.processed(config.dataset.name))
    check_depth(card)
    decisions = read_decisions(path)
    with locked(place):
        kept, _ = read_inbox(place)
        outcome = accept(decisions, {each.record.digest: each for each in kept}, source, card.classes)
    changed = f", {outcome.relabeled:,} got another label" if outcome.relabeled else ""
    changed += f", {outcome.withdrawn:,} removed from it" if outcome.withdrawn else ""
    alike = f", {outcome.alike:,} alike a decided one removed" if outcome.alike else ""
    output.print(
        f"{counted(outcome.joined, 'picture')} joined the train split{changed}, with labels in {table_of(source)}; "
        f"{outcome.discarded:,} discarded{alike}, {outcome.left:,} left"
    )
    if outcome.changes_dataset:
        messages.print("Next: `dvc repro` trains a model with these labels")


def _place(config: Config) -> Path:
    place = find_inbox(config)
    if place is None:
        raise ConfigError(
            "serve.inbox: not set, so that no server keeps pictures; set a directory, such as data/inbox, and restart "
            "the server"
        )
    return place


def _model(workspace: Workspace, config: Config) -> tuple[Classifier, DatasetCard]:
    classifier, model = load_classifier(workspace.weights, workspace.model_card)
    card = DatasetCard.read(workspace.processed(config.dataset.name))
    own = model.dataset_card
    if (own.classes, own.shape) != (card.classes, card.shape):
        raise ModelError(f"{workspace.weights}: of other classes or another image size; run `dvc repro`")
    return classifier, card


def _ask(judged: Judged, row: int, classes: Sequence[str]) -> Asked:
    probabilities = dict(zip(classes, judged.probabilities[row].tolist(), strict=True))
    return Asked.of(
        judged.kept[row], probabilities, alike=[judged.kept[other].record.digest for other in judged.alike(row)]
    )


def _print_json(kept: Sequence[Kept], asked: Sequence[Asked]) -> None:
    content = {"pictures": [asdict(each.record) for each in kept], "chosen": [one.digest for one in asked]}
    typer.echo(json.dumps(content, ensure_ascii=False, indent=2))


def _list(place: Path, kept: Sequence[Kept], judged: Judged, asked: Sequence[Asked]) -> None:
    size = sum(each.file.stat().st_size for each in kept)
    reasons = Counter(each.record.reason for each in kept)
    named = ", ".join(f"{reason} {number:,}" for reason, number in reasons.most_common())
    output.print(f"{place}: {counted(len(kept), 'picture')}" + f" ({named}), {size / MEGABYTE:,.1f} MB" * bool(kept))
    if known := int(judged.known.sum()):
        output.print(f"removed: {known:,} alike an image of the val or test split")
    if again := int(judged.again.sum()):
        output.print(f"removed: {again:,} alike a picture that has joined the dataset")
    groups = judged.groups[~judged.settled]
    if alike := len(groups) - len(np.unique(groups)):
        output.print(f"left out: {alike:,} alike another one")
    for each in asked[:LISTED]:
        answer = f"{each.answer} {each.probability:.0%}" + (f", said to be {each.said}" if each.said else "")
        output.print(f"  {each.digest[:12]}  {each.received}  {each.reason}: {answer}")
    if len(asked) > LISTED:
        output.print(f"  … {len(asked) - LISTED:,} more")
