"""Stage 2: decode, split and cache the images, and report their quality."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from darkroom import plotting
from darkroom.config import Config
from darkroom.data import cache
from darkroom.data.difference import keep_listing
from darkroom.datasets import report, splits
from darkroom.datasets.catalog import CATALOG
from darkroom.datasets.fixes import Decision, apply_fixes, read_fixes, write_fixes
from darkroom.datasets.fixes import describe as describe_fixes
from darkroom.datasets.near_duplicates.audit import (
    Audit,
    compare_splits,
    describe,
    draw,
    list_groups,
    name_leak,
)
from darkroom.datasets.quality import report as quality_report
from darkroom.datasets.quality.report import Quality, judge_quality
from darkroom.datasets.scan import Scan, scan
from darkroom.datasets.source import DecodedDataset, ReportProgress
from darkroom.datasets.suspects import Suspect, find_suspects
from darkroom.errors import DataError, counted
from darkroom.utils.console import messages, reporter, warn
from darkroom.utils.files import atomic_directory, write_json
from darkroom.utils.scratch import kept_directory, scratch_directory
from darkroom.utils.units import MEBIBYTE
from darkroom.workspace import Workspace

MAX_NAMED = 5
# Whatever is looked for, wherever, and however they are divided, the same images are the same data.
WITHOUT_EFFECT = {"audit", "executor", "ray_address", "shard_mb"}
REPORT = "reports/preprocess/report.json"
NEAR_DUPLICATES = "near_duplicates.json"
QUALITY = "quality.json"
# A share of the train images that is left out, of which nobody should learn from the report alone.
MUCH = 0.1


@dataclass(frozen=True)
class Inspected:
    """What was found in the decoded images. ``rows`` are those of each split that are kept, and ``seen`` is their scan.

    ``audit`` is of all images, before any was left out because its picture is in another split too.
    """

    rows: dict[str, NDArray[np.int64]]
    seen: Scan
    audit: Audit
    suspects: Sequence[Suspect]
    quality: Quality | None

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which images of ``audit`` are kept, bool [N]."""
        return np.isin(self.audit.seen.rows, self.seen.rows)

    @property
    def leaked(self) -> dict[str, NDArray[np.bool_]]:
        """Which kept images of each split show a picture that an earlier split has too, bool [size of the split]."""
        splits, kept = self.audit.seen.splits, self.kept
        leaked = self.audit.same.leaked if kept.all() else self.audit.without_leaking().leaked
        return {split: leaked[kept & (splits == number)] for number, split in enumerate(cache.SPLITS)}


def run(config: Config, workspace: Workspace) -> None:
    """Write data/processed/<dataset> and reports/preprocess. Raises DataError."""
    name = config.dataset.name
    target = workspace.processed(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    fixes = read_fixes(workspace.fixes)
    with (
        kept_directory(workspace.unfinished(name)) as kept,
        scratch_directory(target.parent) as scratch,
        reporter() as progress,
    ):
        decoded = CATALOG[name].decode(workspace.raw(name), config.preprocess, scratch, progress, kept)
        _judge_broken(decoded, skip=config.dataset.on_broken == "skip")
        for note in decoded.notes:
            messages.print(f"{name}: {note}")
        rows = splits.assign_rows(decoded, config.preprocess, decoded.digests)
        decoded, rows, fixed = apply_fixes(fixes, decoded, rows)
        if fixes:
            messages.print(f"{name}: {workspace.fixes}: {describe_fixes(fixed)}")
        for line in (*decoded.warnings, *splits.shortcomings(decoded.labels, rows, decoded.classes)):
            warn(line)
        found = _inspect(decoded, rows, config, scratch, progress)
        progress("write tensors", 0, 0)
        card = _write_cache(decoded, found, config, target)
        progress("report", 0, 0)
        with atomic_directory(workspace.report("preprocess")) as directory:
            _write_report(decoded, found, config.preprocess.seed, fixed, directory)
            keep_listing(target, directory)
            if fixes:
                # With each training, so that it can be reproduced.
                write_fixes(directory / workspace.fixes.name, fixes)
    sizes = ", ".join(f"{size:,} {split}" for split, size in card.sizes.items())
    shape = "x".join(map(str, card.shape))
    messages.print(f"{name}: {sizes} images of {shape} in {len(card.classes)} classes, {card.fingerprint[:12]}")


def _inspect(
    decoded: DecodedDataset,
    rows: dict[str, NDArray[np.int64]],
    config: Config,
    scratch: Path,
    progress: ReportProgress,
) -> Inspected:
    """Look for leaks, suspects and flaws among the ``rows`` of each split. Raises DataError where one stops."""
    settings, on_leak = config.preprocess, config.dataset.on_leak
    progress("compare", 0, 0)
    seen = scan(decoded.images, rows)
    audit = compare_splits(decoded.images, seen, config, scratch, progress)
    _judge_leaks(audit, decoded, on_leak)
    if on_leak == "drop-train" and audit.same.leaking.any():
        rows = rows | {"train": np.setdiff1d(rows["train"], seen.rows[audit.same.leaking])}
        _need_every_class(decoded, rows["train"])
        seen = scan(decoded.images, rows)
    suspects = find_suspects(seen, decoded.labels, decoded.classes, decoded.names)
    _judge_suspects(suspects, stop=settings.on_suspect == "stop")
    is_published = config.dataset.name != "folder"
    # Published datasets are known to everyone, and often preprocessed for a training of less than a minute.
    is_judged = settings.audit == "full" or (settings.audit == "auto" and not is_published)
    progress("judge quality", 0, 0)
    return Inspected(rows, seen, audit, suspects, judge_quality(decoded, seen) if is_judged else None)


def _write_cache(decoded: DecodedDataset, found: Inspected, config: Config, target: Path) -> cache.DatasetCard:
    name = config.dataset.name
    with atomic_directory(target) as directory:
        card = cache.write(
            directory,
            decoded.images,
            decoded.labels,
            found.rows,
            name=name,
            classes=decoded.classes,
            names=decoded.names,
            attributes=decoded.attributes,
            settings={
                "dataset": config.dataset.recorded,
                "preprocess": config.preprocess.model_dump(mode="json", exclude=WITHOUT_EFFECT),
            },
            decoder=decoded.decoder,
            digests=decoded.digests,
            original_sizes=decoded.original_sizes,
            shard_bytes=config.preprocess.shard_mb * MEBIBYTE,
        )
        cache.write_leaked(directory, found.leaked)
        cache.write_groups(directory, found.audit.groups_with(decoded.groups)[found.kept])
    return card


def _write_report(
    decoded: DecodedDataset, found: Inspected, seed: int, fixed: Mapping[Decision, int], directory: Path
) -> None:
    audit, rows = found.audit, found.rows
    document = report.describe(decoded, rows, found.seen) | {
        "suspects": [asdict(suspect) for suspect in found.suspects],
        "near_duplicates": describe(audit, decoded) | {"dropped": int((~found.kept).sum())},
        "fixes": fixed,
    }
    write_json(directory / "report.json", document)
    plotting.save(report.class_balance(document["classes"]), directory / "class_balance.png")
    picture = report.samples(decoded.images, decoded.labels, rows["train"], decoded.classes, seed)
    plotting.save(picture, directory / "samples.png")
    if audit.same.groups:
        write_json(directory / NEAR_DUPLICATES, list_groups(audit, decoded, found.kept))
        plotting.save(draw(audit, decoded), directory / "near_duplicates.png")
    if found.quality:
        _report_quality(found.quality, decoded, directory)


def _judge_broken(decoded: DecodedDataset, *, skip: bool) -> None:
    if not decoded.broken:
        return
    named = "; ".join(f"{name} ({reason})" for name, reason in sorted(decoded.broken.items())[:MAX_NAMED])
    more = len(decoded.broken) - MAX_NAMED
    text = f"{counted(len(decoded.broken), 'image')} cannot be decoded: {named}" + (
        f" and {more:,} more" if more > 0 else ""
    )
    if not skip:
        raise DataError(f"{text}; fix or remove them, or set dataset.on_broken to skip")
    warn(f"{text}; left out")


def _judge_suspects(found: Sequence[Suspect], *, stop: bool) -> None:
    if stop and any(suspect.stops for suspect in found):
        # All of it, what alone would be a warning as well: whoever mends the images wants to do so once.
        raise DataError(
            *(suspect.text for suspect in found),
            "nothing was written: fix or remove these images; or set preprocess.on_suspect to warn, and "
            f"{REPORT} lists them",
        )
    for suspect in found:
        warn(f"{suspect.text}; {REPORT} lists them under suspects")


def _judge_leaks(audit: Audit, decoded: DecodedDataset, on_leak: Literal["report", "drop-train", "stop"]) -> None:
    if audit.skipped and on_leak != "report":
        warn(f"only identical images were compared between the splits: {audit.skipped}")
    line = name_leak(audit, decoded)
    if not line:
        return
    if on_leak == "stop":
        raise DataError(f"{line}; nothing was written: remove them, or set dataset.on_leak to drop-train or report")
    leaking = audit.same.leaking
    shown = "reports/preprocess/near_duplicates.png shows them"
    if on_leak == "drop-train":
        share = leaking.sum() / (audit.seen.splits == 0).sum()
        if leaking.any():
            messages.print(f"{counted(int(leaking.sum()), 'train image')} left out: {line}")
        if share > MUCH:
            warn(f"{share:.0%} of the train images are left out; pictures of one scene may be no copies: {shown}")
        if left := int(audit.without_leaking().leaked.sum()):
            warn(f"{counted(left, 'test image')} with a picture that is in val too: drop-train changes only train")
    elif audit.pairs.first.size:
        # What consists of identical images only is among the suspects.
        warn(f"{line}; {shown}" + (", and dataset.on_leak can drop them from train" if leaking.any() else ""))


def _report_quality(quality: Quality, decoded: DecodedDataset, directory: Path) -> None:
    write_json(directory / QUALITY, quality_report.describe(quality, decoded))
    if quality.flaws:
        plotting.save(quality_report.draw(quality, decoded), directory / "quality.png")
    if line := quality_report.count_flaws(quality):
        messages.print(f"{line}: reports/preprocess/quality.png shows them")
    if line := quality_report.name_associations(quality):
        warn(f"{line}; reports/preprocess/{QUALITY} lists all associations")


def _need_every_class(decoded: DecodedDataset, train: NDArray[np.int64]) -> None:
    counts = np.bincount(decoded.labels[train], minlength=len(decoded.classes))
    if not counts.all():
        raise DataError(
            f"class {decoded.classes[int(counts.argmin())]!r} has no train image left without those whose picture is "
            "in val or test too; set dataset.on_leak to report, or add images"
        )
