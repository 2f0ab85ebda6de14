"""Stage 2: decode, split and cache the images, and report their quality."""

from collections.abc import Sequence
from dataclasses import asdict
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
from darkroom.datasets.fixes import apply_fixes, read_fixes, write_fixes
from darkroom.datasets.fixes import describe as describe_fixes
from darkroom.datasets.near_duplicates.audit import (
    Audit,
    describe,
    draw,
    find_near_duplicates,
    list_groups,
    name_leak,
)
from darkroom.datasets.quality import report as quality_report
from darkroom.datasets.quality.report import Quality, judge_quality
from darkroom.datasets.scan import scan
from darkroom.datasets.source import DecodedDataset
from darkroom.datasets.suspects import Suspect, find_suspects
from darkroom.errors import DataError, counted
from darkroom.utils.console import messages, reporter, warn
from darkroom.utils.files import atomic_directory, write_json
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

MAX_NAMED = 5
REPORT = "reports/preprocess/report.json"
NEAR_DUPLICATES = "near_duplicates.json"
QUALITY = "quality.json"
# A share of the train images that is left out, of which nobody should learn from the report alone.
MUCH = 0.1


def run(config: Config, workspace: Workspace) -> None:
    """Write data/processed/<dataset> and reports/preprocess. Raises DataError."""
    name = config.dataset.name
    settings = config.preprocess
    target = workspace.processed(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    fixes = read_fixes(workspace.fixes)
    with scratch_directory(target.parent) as scratch, reporter() as progress:
        decoded = CATALOG[name].decode(workspace.raw(name), settings, scratch, progress)
        _judge_broken(decoded, skip=config.dataset.on_broken == "skip")
        for note in decoded.notes:
            messages.print(f"{name}: {note}")
        rows = splits.assign_rows(decoded, settings, decoded.digests)
        decoded, rows, fixed = apply_fixes(fixes, decoded, rows)
        if fixes:
            messages.print(f"{name}: {workspace.fixes}: {describe_fixes(fixed)}")
        for line in (*decoded.warnings, *splits.shortcomings(decoded.labels, rows, decoded.classes)):
            warn(line)
        progress("compare", 0, 0)
        seen = scan(decoded.images, rows)
        on_leak = config.dataset.on_leak
        # Who wants leaks dropped wants them found, however many images there are.
        extent = "full" if settings.audit == "auto" and on_leak != "report" else settings.audit
        is_published = name != "folder"
        audit = find_near_duplicates(decoded.images, seen, extent, scratch, progress, is_published=is_published)
        leaked = audit.same.leaked
        _judge_leaks(audit, decoded, on_leak)
        if on_leak == "drop-train" and audit.same.leaking.any():
            rows["train"] = np.setdiff1d(rows["train"], seen.rows[audit.same.leaking])
            _need_every_class(decoded, rows["train"])
            leaked = audit.without_leaking().leaked
            seen = scan(decoded.images, rows)
        suspects = find_suspects(seen, decoded.labels, decoded.classes, decoded.names)
        _judge_suspects(suspects, stop=settings.on_suspect == "stop")
        # Published datasets are known to everyone, and often preprocessed for a training of less than a minute.
        is_judged = settings.audit == "full" or (settings.audit == "auto" and not is_published)
        progress("judge quality", 0, 0)
        quality = judge_quality(decoded, seen) if is_judged else None
        progress("write tensors", 0, 0)
        with atomic_directory(target) as directory:
            card = cache.write(
                directory,
                decoded.images,
                decoded.labels,
                rows,
                name=name,
                classes=decoded.classes,
                names=decoded.names,
                attributes=decoded.attributes,
                settings={
                    "dataset": {"name": name, "on_broken": config.dataset.on_broken},
                    # Whatever was looked for, the same images are the same data.
                    "preprocess": settings.model_dump(mode="json", exclude={"audit"}),
                },
                decoder=decoded.decoder,
                digests=decoded.digests,
                original_sizes=decoded.original_sizes,
            )
            cache.write_leaked(
                directory, {split: leaked[audit.seen.splits == number] for number, split in enumerate(cache.SPLITS)}
            )
            kept = np.isin(audit.seen.rows, seen.rows)
            cache.write_groups(directory, audit.groups_with(decoded.groups)[kept])
        progress("report", 0, 0)
        found = report.describe(decoded, rows, seen) | {
            "suspects": [asdict(suspect) for suspect in suspects],
            "near_duplicates": describe(audit, decoded) | {"dropped": len(audit.seen.rows) - len(seen.rows)},
            "fixes": fixed,
        }
        with atomic_directory(workspace.report("preprocess")) as directory:
            write_json(directory / "report.json", found)
            keep_listing(target, directory)
            if fixes:
                # With each training, so that it can be reproduced.
                write_fixes(directory / workspace.fixes.name, fixes)
            plotting.save(report.class_balance(found["classes"]), directory / "class_balance.png")
            picture = report.samples(decoded.images, decoded.labels, rows["train"], decoded.classes, settings.seed)
            plotting.save(picture, directory / "samples.png")
            if audit.same.groups:
                write_json(directory / NEAR_DUPLICATES, list_groups(audit, decoded, kept))
                plotting.save(draw(audit, decoded), directory / "near_duplicates.png")
            if quality:
                _report_quality(quality, decoded, directory)
    sizes = ", ".join(f"{size:,} {split}" for split, size in card.sizes.items())
    shape = "x".join(map(str, card.shape))
    messages.print(f"{name}: {sizes} images of {shape} in {len(card.classes)} classes, {card.fingerprint[:12]}")


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
