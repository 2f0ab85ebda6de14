"""Put together what the audit and `darkroom preprocess` found about the images of a dataset."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.audit.findings import Finding, ImageRef
from darkroom.audit.labels import LabelJudgment
from darkroom.audit.neighbors import nearest
from darkroom.audit.out_of_fold import OutOfFold
from darkroom.audit.outliers import FEWEST, find_outliers, unsearched
from darkroom.data.cache import SPLITS, DatasetCard, read_digests, read_names
from darkroom.data.digests import as_hex
from darkroom.datasets.fixes import Fix
from darkroom.evaluation.metrics import accuracy_interval, best_guess
from darkroom.utils.csv_files import write_csv

# Of so many findings of a kind the neighbors are looked for: more nobody looks at.
MOST_SHOWN = 200
MOST_NAMED = 3
COLUMNS = (
    "split", "row", "file", "label", "fold", "predicted", "probability_of_label", "probability_of_predicted", "suspect",
    "digest",
)  # fmt: skip

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ImageTable:
    """N images in the order of train, val and test: their files ("" where there are none), digests and labels."""

    card: DatasetCard
    files: list[str]
    digests: list[str]
    labels: Ints

    @classmethod
    def read(cls, directory: Path, card: DatasetCard, labels: Ints) -> "ImageTable":
        """Raises CacheError."""
        files, digests = [], []
        for split in SPLITS:
            count = card.sizes[split]
            contents = read_digests(directory, split)
            files += read_names(directory, split) or [""] * count
            digests += [""] * count if contents is None else list(as_hex(contents))
        return cls(card, files, digests, labels)

    def place(self, position: int) -> ImageRef:
        """Where the image at ``position`` is in the cache."""
        row = position
        for split in SPLITS:
            if row < self.card.sizes[split]:
                return ImageRef(split, row)
            row -= self.card.sizes[split]
        raise IndexError(position)

    def position(self, image: ImageRef) -> int:
        return sum(self.card.sizes[split] for split in SPLITS[: SPLITS.index(image.split)]) + image.row

    def label(self, position: int) -> str:
        return self.card.classes[int(self.labels[position])]


def metrics(judged: LabelJudgment, folds: int, epochs: int, fingerprint: str) -> dict[str, Any]:
    """The content of metrics.json: the cross-validated accuracy and its 95 % interval, and what was counted."""
    right = int((judged.predicted == judged.labels).sum())
    low, high = accuracy_interval(right, len(judged.labels))
    return {
        "fingerprint": fingerprint,
        "images": len(judged.labels),
        "accuracy": right / len(judged.labels),
        "accuracy_low": low,
        "accuracy_high": high,
        "folds": folds,
        "epochs": epochs,
        "temperature": judged.temperature,
        "suspected_labels": int(judged.suspects.sum()),
    }


def changed_fixes_lines(path: Path, fixes: Sequence[Fix], applied: Sequence[Fix]) -> list[str]:
    """A line if the ``fixes`` in the file ``path`` would change other images than those that were ``applied``."""
    now, then = (
        {(fix.digest, fix.given, fix.decision, fix.new) for fix in each if fix.decision != "keep"}
        for each in (fixes, applied)
    )
    if now == then:
        return []
    return [
        f"{path} was changed after the images were preprocessed, which are judged as they were then; "
        "run `dvc repro`, and `darkroom audit` again"
    ]


def guessing_lines(metrics: Mapping[str, Any], labels: Ints, classes: Sequence[str]) -> list[str]:
    """A line if the models may do no better than guessing ``labels`` [N]: what they doubt then says nothing."""
    guessed, guess = best_guess(labels, classes)
    if metrics["accuracy_low"] > guess:
        return []
    return [
        "the models may be no better than guessing, and their doubts and outliers say little: "
        f"{metrics['accuracy']:.1%} of the images are right, and always answering {guessed!r} would give {guess:.1%}; "
        "train longer (audit.epochs), choose another recipe, or add images"
    ]


def unsearched_lines(labels: Ints, folds: Ints, classes: Sequence[str]) -> list[str]:
    """A line if no outliers were looked for in some classes; ``labels`` and ``folds`` are int64 [N]."""
    few = unsearched(labels, folds)
    if not len(few):
        return []
    named = ", ".join(repr(classes[label]) for label in few[:MOST_NAMED].tolist())
    more = f" and {len(few) - MOST_NAMED:,} more" if len(few) > MOST_NAMED else ""
    return [
        f"no outliers were looked for in {len(few):,} of {len(classes):,} classes, which have fewer "
        f"than {FEWEST} images in a fold: {named}{more}; lower audit.folds, or add images"
    ]


def write_out_of_fold(path: Path, table: ImageTable, found: OutOfFold, judged: LabelJudgment) -> None:
    """Write a line for each image, the least believed label first."""

    def lines() -> Iterator[list[object]]:
        predicted, belief, suspects = judged.predicted, judged.belief, judged.suspects
        for position in judged.ranking.tolist():
            place, guess = table.place(position), predicted[position]
            yield [
                place.split, place.row, table.files[position], table.label(position), found.folds[position],
                table.card.classes[guess], f"{belief[position]:.6f}", f"{judged.probabilities[position, guess]:.6f}",
                int(suspects[position]), table.digests[position],
            ]  # fmt: skip

    write_csv(path, COLUMNS, lines())


def label_findings(table: ImageTable, found: OutOfFold, judged: LabelJudgment) -> list[Finding]:
    """The suspected labels, the least believed first; beside each, images of its class and of the suggested one."""
    positions = judged.ranking[judged.suspects[judged.ranking]]
    suggested, belief = judged.suggested, judged.belief
    shown = positions[:MOST_SHOWN]
    own = nearest(found, judged.labels, shown, judged.labels[shown], 1)
    other = nearest(found, judged.labels, shown, suggested[shown], 2)
    beside = np.concatenate([own, other], axis=1)
    findings = []
    for number, position in enumerate(positions.tolist()):
        label, guess = table.label(position), table.card.classes[suggested[position]]
        findings.append(
            _finding(
                table,
                "label",
                position,
                f"models that have not seen it give {label} {belief[position]:.1%} and {guess} "
                f"{judged.probabilities[position, suggested[position]]:.1%}",
                1 - float(belief[position]),
                suggested=guess,
                neighbors=[each for each in beside[number].tolist() if each >= 0] if number < len(shown) else [],
            )
        )
    return findings


def outlier_findings(table: ImageTable, found: OutOfFold) -> list[Finding]:
    """The images unlike their class or unlike all, by what the last layer of the models is given."""
    return find_outliers(
        found.features,
        table.labels,
        found.folds,
        images=[table.place(position) for position in range(len(table.labels))],
        files=table.files,
        digests=table.digests,
        classes=table.card.classes,
    )


def near_duplicate_findings(table: ImageTable, path: Path) -> list[Finding]:
    """Those of the groups in near_duplicates.json, different labels first; none if there is no file.

    A group has one, about its first image: of a leak the train image is what can go. Where labels differ, any of them
    may be wrong, and each has one.
    """
    if not path.exists():
        return []
    findings: list[Finding] = []
    for group in json.loads(path.read_text(encoding="utf-8")):
        places = [ImageRef(image["split"], image["row"]) for image in group if image["row"] is not None]
        if len(places) > 1:
            findings += _of_same_picture(table, sorted(map(table.position, places)))
    return sorted(findings, key=lambda each: -each.score)


def _of_same_picture(table: ImageTable, positions: Sequence[int]) -> Iterator[Finding]:
    """The findings about the images at ``positions``, which are in order."""
    firsts = {table.label(position): position for position in reversed(positions)}
    differ = len(firsts) > 1
    kind = "leak" if len({table.place(position).split for position in positions}) > 1 else "near-duplicate"
    for subject in sorted(firsts.values()) if differ else positions[:1]:
        others = [position for position in positions if position != subject]
        # First those of another label, if there are any: that is what the finding is about.
        others.sort(key=lambda position: table.label(position) == table.label(subject))
        reason = f"shows the same picture as {_named(table, others[0])}"
        reason += f" and {len(others) - 1:,} more" if len(others) > 1 else ""
        reason += f"; their labels differ: {', '.join(sorted(firsts))}" if differ else ""
        yield _finding(table, kind, subject, reason, 1.0 if differ else 0.5, neighbors=others[:5])


def quality_findings(table: ImageTable, path: Path) -> tuple[list[Finding], list[dict[str, Any]]]:
    """The findings and associations in quality.json; none if there is no file."""
    if not path.exists():
        return [], []
    content = json.loads(path.read_text(encoding="utf-8"))
    findings = [
        _finding(
            table,
            each["kind"],
            table.position(ImageRef(each["split"], each["row"])),
            each["reason"],
            each["score"],
        )
        for each in content["findings"]
    ]
    return findings, content["associations"]


def association_lines(associations: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each class that can be told from an attribute of its files alone."""
    return [
        f"{each['label']} can be told from the {each['attribute']} of the files alone ({each['told']:.0%} right, 50% "
        f"by chance; {each['effect_size']} {each['effect']:.2f}): a model may learn how the pictures were made"
        for each in associations
        if each["strong"] and each["of"] == "file"
    ]


def _finding(
    table: ImageTable,
    kind: str,
    position: int,
    reason: str,
    score: float,
    *,
    suggested: str | None = None,
    neighbors: Sequence[int] = (),
) -> Finding:
    return Finding(
        kind,
        table.place(position),
        table.files[position],
        table.digests[position],
        table.label(position),
        reason,
        score,
        suggested,
        tuple(table.place(each) for each in neighbors),
    )


def _named(table: ImageTable, position: int) -> str:
    place = table.place(position)
    return f"{table.files[position] or f'image {place.row}'} ({place.split})"
