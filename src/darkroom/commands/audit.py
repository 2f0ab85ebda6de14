"""`darkroom audit`: find wrong labels and odd images by models that have not seen them, and make a page of them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import typer

from darkroom.audit import report
from darkroom.audit.cached_images import CachedImages
from darkroom.audit.cross_validation import cross_validate
from darkroom.audit.effect import measure_effect
from darkroom.audit.findings import Finding
from darkroom.audit.labels import judge_labels
from darkroom.audit.out_of_fold import epochs_of
from darkroom.audit.page.write import current_user, title_of, write_page
from darkroom.config import Config
from darkroom.data.batches import read_split
from darkroom.data.cache import SPLITS, DatasetCard
from darkroom.datasets.fixes import read_fixes
from darkroom.errors import counted
from darkroom.utils.console import messages, output, warn
from darkroom.utils.files import atomic_directory, write_json
from darkroom.workspace import Workspace

FORMAT_VERSION = 1
FINDINGS = "findings.json"
METRICS = "metrics.json"
PAGE = "index.html"


def run(config: Config, workspace: Workspace, *, as_json: bool) -> None:
    """Write reports/audit, and say what was found; ``as_json`` prints findings.json instead.

    Raises what ``cross_validate`` raises, and DataError for a damaged data/fixes.csv.
    """
    directory = workspace.processed(config.dataset.name)
    card = DatasetCard.read(directory)
    preprocess = workspace.report("preprocess")
    fixes, applied = (read_fixes(path) for path in (workspace.fixes, preprocess / workspace.fixes.name))
    found = cross_validate(config, workspace, card)
    labels = np.concatenate([read_split(directory, card, name).labels.numpy() for name in SPLITS])
    judged = judge_labels(found.logits, labels)
    table = report.ImageTable.read(directory, card, labels)
    quality, associations = report.quality_findings(table, preprocess / "quality.json")
    findings = [
        *report.label_findings(table, found, judged),
        *report.outlier_findings(table, found),
        *report.near_duplicate_findings(table, preprocess / "near_duplicates.json"),
        *quality,
    ]
    epochs = epochs_of(config, len(labels) - len(labels) // config.audit.folds)
    metrics = report.metrics(judged, config.audit.folds, epochs, card.fingerprint)
    warnings = [
        *report.changed_fixes_lines(workspace.fixes, fixes, applied),
        *report.guessing_lines(metrics, labels, card.classes),
        *report.unsearched_lines(labels, found.folds, card.classes),
        *report.association_lines(associations),
    ]
    content = {
        "format_version": FORMAT_VERSION,
        "fingerprint": card.fingerprint,
        "findings": [asdict(finding) for finding in findings],
        "associations": associations,
    }
    with atomic_directory(workspace.report("audit")) as written:
        write_json(written / FINDINGS, content)
        write_json(written / METRICS, metrics)
        report.write_out_of_fold(written / "out_of_fold.csv", table, found, judged)
        write_page(
            written / PAGE,
            findings,
            CachedImages(directory),
            classes=card.classes,
            fixes=fixes,
            who=current_user(workspace.root),
            dataset=card.name,
            warnings=warnings,
            applied=applied,
        )
    for line in warnings:
        warn(line)
    if as_json:
        typer.echo(json.dumps(content | {"metrics": metrics}, ensure_ascii=False, indent=2))
        return
    messages.print(
        f"audit: cross-validated accuracy {metrics['accuracy']:.4f} (95 % interval {metrics['accuracy_low']:.4f} to "
        f"{metrics['accuracy_high']:.4f}), {config.audit.folds} folds of {counted(len(labels), 'image')}"
    )
    messages.print(f"audit: {_counts(findings)}; decide on {workspace.report('audit') / PAGE}")


def run_effect(config: Config, workspace: Workspace) -> None:
    """Print whether the fixes change the accuracy on test images that they leave as they are.

    Writes reports/audit-effect. Raises what ``measure_effect`` raises.
    """
    card = DatasetCard.read(workspace.processed(config.dataset.name))
    effect = measure_effect(config, workspace, card)
    comparison = effect.comparison
    low, high = comparison.difference_interval()
    alpha = config.gate.alpha
    content = comparison.as_json(alpha=alpha, bins=config.evaluate.calibration_bins)
    content |= {"difference_interval": {"low": low, "high": high}, "left_out": effect.left_out}
    with atomic_directory(workspace.report("audit-effect")) as written:
        write_json(written / "effect.json", content)
    before, after = (content["accuracy"][each]["value"] for each in "ab")
    if comparison.p_better < alpha:
        verdict = "the fixes help"
    elif comparison.p_worse < alpha:
        verdict = "the fixes do harm"
    else:
        verdict = "no difference is shown"
    known = f" ({effect.left_out:,} more show a picture that was learned)" if effect.left_out else ""
    output.print(
        f"{verdict}: test accuracy {before:.4f} without and {after:.4f} with them, {100 * comparison.difference:+.2f} "
        f"points (95 % interval {100 * low:+.2f} to {100 * high:+.2f}), p {comparison.p_different:.2g}, "
        f"{counted(len(comparison.a.labels), 'test image')} that no fix changes{known}, "
        f"{config.audit.folds} models each"
    )


def _counts(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.kind for finding in findings)
    return ", ".join(f"{title_of(kind).lower()}: {count:,}" for kind, count in counts.items()) or "nothing suspicious"
