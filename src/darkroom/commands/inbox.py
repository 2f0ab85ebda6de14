"""`darkroom inbox`: what servers have kept, which of it to label, and what people labeled."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from darkroom.audit.page.write import current_user
from darkroom.config import Config
from darkroom.data.batches import read_split
from darkroom.data.cache import DatasetCard
from darkroom.data.memmap import allocate
from darkroom.datasets.inbox import table_of
from darkroom.errors import ConfigError, ModelError, counted
from darkroom.images.decoder import BrokenImageError, Decoder
from darkroom.inbox.acceptance import accept, check_dataset, check_depth, read_decisions
from darkroom.inbox.duplicates import find_duplicates
from darkroom.inbox.page.write import Asked, write_page
from darkroom.inbox.picking import pick
from darkroom.inbox.place import find_inbox
from darkroom.inbox.store import Kept, locked, read_inbox
from darkroom.models.classifier import Classifier
from darkroom.models.files import load_classifier
from darkroom.models.network import record_features
from darkroom.utils.console import messages, output, reporter, warn
from darkroom.utils.scratch import scratch_directory
from darkroom.utils.units import MEGABYTE
from darkroom.workspace import Workspace

PAGE = "index.html"
# Pictures that the model is given at once.
BATCH = 256
# Listed in the terminal; the page has all.
LISTED = 20


@dataclass(frozen=True)
class Judged:
    """Pictures with what the model in the working tree says of them.

    ``probabilities`` float32 [n, classes], ``features`` float16 [n, D] and ``groups`` int64 [n] as ``find_duplicates``
    gives them; ``known`` bool [n], which show a picture of the validation or test split.
    """

    kept: Sequence[Kept]
    probabilities: NDArray[np.float32]
    features: NDArray[np.float16]
    groups: NDArray[np.int64]
    known: NDArray[np.bool_]


def run(config: Config, workspace: Workspace, *, images: int, as_json: bool) -> None:
    """List the inbox, and write the page to label the ``images`` that teach most: reports/inbox/index.html.

    Raises ConfigError if there is no inbox, or it is in the dataset, DataError if its pictures cannot join that,
    ModelError or CacheError if there is no model of it.
    """
    place = _place(config)
    check_dataset(config.dataset)
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
    with scratch_directory() as scratch:
        judged = _judge(kept, classifier, card, workspace.processed(config.dataset.name), scratch)
    asked = _choose(judged, card.classes, images)
    target = workspace.report("inbox") / PAGE
    write_page(target, asked, classes=card.classes, who=current_user(workspace.root), total=len(kept))
    if as_json:
        _print_json(kept, asked)
        return
    _list(place, judged, asked)
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
    output.print(
        f"{counted(outcome.joined, 'picture')} joined the train split{changed}, with labels in {table_of(source)}; "
        f"{outcome.discarded:,} discarded, {outcome.left:,} left"
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


def _judge(kept: Sequence[Kept], classifier: Classifier, card: DatasetCard, cache: Path, scratch: Path) -> Judged:
    # They are what a model has seen: in 8 bits, whatever the files of the dataset have.
    decoder = Decoder.parse({}, card.shape)
    pixels = allocate(scratch / "inbox", (len(kept), *card.shape))
    readable: list[Kept] = []
    for each in kept:
        try:
            pixels[len(readable)] = decoder(each.content())
        except BrokenImageError as problem:
            warn(f"{each.file}: left out ({problem})")
        else:
            readable.append(each)
    pixels = pixels[: len(readable)]
    probabilities = []
    with torch.no_grad(), record_features(classifier) as features, reporter() as report:
        for start in range(0, len(pixels), BATCH):
            batch = torch.from_numpy(np.array(pixels[start : start + BATCH]))
            probabilities.append(classifier(batch).softmax(1).float().numpy())
            report("run the model", start, len(pixels))
        splits = [read_split(cache, card, name) for name in ("val", "test")]
        groups, known = find_duplicates(pixels, splits, scratch, report)
    return Judged(readable, np.concatenate(probabilities), torch.cat(features).numpy(), groups, known)


def _choose(judged: Judged, classes: Sequence[str], count: int) -> list[Asked]:
    """The pictures to ask people about: first those whose class somebody has named."""
    said = np.array([each.record.label is not None for each in judged.kept])
    # Of a group the one that somebody has named the class of, else the first.
    order = np.lexsort([np.arange(len(said)), ~said])
    first = order[np.unique(judged.groups[order], return_index=True)[1]]
    rows = np.sort(first[~judged.known[first]])
    chosen: list[int] = []
    for part in (rows[said[rows]], rows[~said[rows]]):
        picked = pick(judged.probabilities[part], judged.features[part], count - len(chosen))
        chosen += part[picked].tolist()
    sizes = Counter(judged.groups.tolist())
    return [
        Asked.of(
            judged.kept[row],
            dict(zip(classes, judged.probabilities[row].tolist(), strict=True)),
            alike=sizes[int(judged.groups[row])] - 1,
        )
        for row in chosen
    ]


def _print_json(kept: Sequence[Kept], asked: Sequence[Asked]) -> None:
    content = {"pictures": [asdict(each.record) for each in kept], "chosen": [one.digest for one in asked]}
    typer.echo(json.dumps(content, ensure_ascii=False, indent=2))


def _list(place: Path, judged: Judged, asked: Sequence[Asked]) -> None:
    kept = judged.kept
    size = sum(each.file.stat().st_size for each in kept)
    reasons = Counter(each.record.reason for each in kept)
    named = ", ".join(f"{reason} {number:,}" for reason, number in reasons.most_common())
    output.print(f"{place}: {counted(len(kept), 'picture')} ({named}), {size / MEGABYTE:,.1f} MB")
    again = len(kept) - len(np.unique(judged.groups))
    if again or judged.known.any():
        known = int(judged.known.sum())
        output.print(f"left out: {again:,} alike another one, {known:,} alike an image of the val or test split")
    for each in asked[:LISTED]:
        answer = f"{each.answer} {each.probability:.0%}" + (f", said to be {each.said}" if each.said else "")
        output.print(f"  {each.digest[:12]}  {each.received}  {each.reason}: {answer}")
    if len(asked) > LISTED:
        output.print(f"  … {len(asked) - LISTED:,} more")
