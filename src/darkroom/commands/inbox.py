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
from darkroom.data.batches import Split, read_split
from darkroom.data.cache import DatasetCard
from darkroom.data.memmap import allocate
from darkroom.datasets.inbox import read_accepted, table_of
from darkroom.errors import ConfigError, ModelError, counted
from darkroom.images.decoder import BrokenImageError, Decoder
from darkroom.inbox.acceptance import accept, check_dataset, check_depth, read_decisions
from darkroom.inbox.duplicates import find_duplicates
from darkroom.inbox.page.write import Asked, write_page
from darkroom.inbox.picking import pick
from darkroom.inbox.place import find_inbox
from darkroom.inbox.store import Kept, locked, read_inbox, remove
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
    gives them. ``said`` bool [n]: somebody has named their class; ``known``: they show an image of the validation or
    test split; ``again``: they show a picture that has joined the dataset, and neither of these.
    """

    kept: Sequence[Kept]
    probabilities: NDArray[np.float32]
    features: NDArray[np.float16]
    groups: NDArray[np.int64]
    said: NDArray[np.bool_]
    known: NDArray[np.bool_]
    again: NDArray[np.bool_]

    @property
    def settled(self) -> NDArray[np.bool_]:
        """Nobody is asked about them: whoever tries the server with test images must not make train images of them."""
        return self.known | self.again


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
    with scratch_directory() as scratch:
        cache = workspace.processed(config.dataset.name)
        judged = _judge(kept, accepted, classifier, card, cache, scratch)
    asked = _choose(judged, card.classes, images)
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


def _judge(
    kept: Sequence[Kept],
    accepted: Sequence[Path],
    classifier: Classifier,
    card: DatasetCard,
    cache: Path,
    scratch: Path,
) -> Judged:
    pixels, rows = _decode([each.file for each in kept], card, scratch / "inbox")
    joined, _ = _decode(accepted, card, scratch / "accepted")
    probabilities = []
    with torch.no_grad(), record_features(classifier) as features, reporter() as report:
        for start in range(0, len(pixels), BATCH):
            batch = torch.from_numpy(np.array(pixels[start : start + BATCH]))
            probabilities.append(classifier(batch).softmax(1).float().numpy())
            report("run the model", start, len(pixels))
        splits = [read_split(cache, card, name) for name in ("val", "test")]
        splits.append(Split(torch.from_numpy(joined), torch.zeros(len(joined), dtype=torch.int64)))
        groups, (val, test, again) = find_duplicates(pixels, splits, scratch, report)
    readable = [kept[row] for row in rows]
    said = np.array([each.record.label is not None for each in readable])
    return Judged(
        readable,
        np.concatenate(probabilities),
        torch.cat(features).numpy(),
        groups,
        said,
        val | test,
        again & ~said & ~val & ~test,
    )


def _decode(files: Sequence[Path], card: DatasetCard, target: Path) -> tuple[NDArray[np.uint8], list[int]]:
    """The pixels of pictures as the model takes them, mapped from ``target``, and which of ``files`` can be read."""
    # They are what a model has seen: in 8 bits, whatever the files of the dataset have.
    decoder = Decoder.parse({}, card.shape)
    pixels = allocate(target, (max(1, len(files)), *card.shape))  # no file of no bytes can be mapped
    readable: list[int] = []
    for row, file in enumerate(files):
        try:
            pixels[len(readable)] = decoder(file.read_bytes())
        except (BrokenImageError, FileNotFoundError) as problem:
            warn(f"{file}: left out ({problem})")
        else:
            readable.append(row)
    return pixels[: len(readable)], readable


def _choose(judged: Judged, classes: Sequence[str], count: int) -> list[Asked]:
    """The pictures to ask people about: first those whose class somebody has named."""
    said = judged.said
    # Of a group the one that somebody has named the class of, else the first.
    order = np.lexsort([np.arange(len(said)), ~said])
    first = order[np.unique(judged.groups[order], return_index=True)[1]]
    rows = np.sort(first[~judged.settled[first]])
    chosen: list[int] = []
    for part in (rows[said[rows]], rows[~said[rows]]):
        picked = pick(judged.probabilities[part], judged.features[part], count - len(chosen))
        chosen += part[picked].tolist()
    members: dict[int, list[str]] = {}
    for row in np.flatnonzero(~judged.settled).tolist():
        members.setdefault(int(judged.groups[row]), []).append(judged.kept[row].record.digest)
    return [
        Asked.of(
            judged.kept[row],
            dict(zip(classes, judged.probabilities[row].tolist(), strict=True)),
            alike=[digest for digest in members[int(judged.groups[row])] if digest != judged.kept[row].record.digest],
        )
        for row in chosen
    ]


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
