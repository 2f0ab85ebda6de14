"""Write the page on which people decide about findings."""

import getpass
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from darkroom.audit.findings import Finding, ImageRef
from darkroom.audit.page.images import Images
from darkroom.data.cache import SPLITS
from darkroom.datasets.fixes import COLUMNS, Fix
from darkroom.pages import render
from darkroom.pages.images import data_uri

# A page of photographs has up to 20 MB then.
MAX_SHOWN = 300
MAX_NEIGHBORS = 6
# Pixels of the longer side of a photograph.
SIDE = 384
NEIGHBOR_SIDE = 160
# In the order of the page. What each kind is, for people.
TITLES = {
    "label": ("Labels in doubt", "Models that never saw these images believe in other labels."),
    "leak": ("Leaks between splits", "The picture is in an earlier split too, so that a model may know it by heart."),
    "near-duplicate": ("Near-duplicates", "Nearly the same picture is there more than once."),
    "unlike its class": ("Unlike their class", "Unlike other images of the same label."),
    "unlike all": ("Unlike all others", "Unlike the images of every label."),
    "dark": ("Dark", "Hardly any light."),
    "bright": ("Bright", "Hardly any shade."),
    "blurred": ("Blurred", "Hardly any detail."),
    "one color": ("Of one color", "Hardly any contrast."),
    "odd size": ("Of an odd size", "Much larger or smaller than most files."),
    "odd shape": ("Of an odd shape", "Much wider or taller than most files."),
}


def write_page(
    path: Path,
    findings: Sequence[Finding],
    images: Images,
    *,
    classes: Sequence[str],
    fixes: Sequence[Fix],
    who: str,
    dataset: str,
    warnings: Sequence[str] = (),
    applied: Sequence[Fix] | None = None,
) -> None:
    """Write the page of a dataset's ``findings`` to ``path``: of each kind the most suspicious, 300 in all.

    ``fixes`` are the decisions already in data/fixes.csv: they are shown, can be undone, and are saved again with the
    new ones. Images without a decision come first. ``who`` is the name that new decisions get, unless it is changed on
    the page. ``warnings`` are about the dataset as a whole. ``applied`` are the fixes that made the labels of the
    findings, if they are others than ``fixes``.
    """
    shown = choose(findings, fixes)
    counts = {kind: sum(finding.kind == kind for finding in findings) for kind in kinds_of(findings)}
    drawn = _Drawn(images)
    for finding in shown:
        drawn.add(finding.image, SIDE)
    made_by = fixes if applied is None else applied
    listed = [_listed(finding, made_by, drawn) for finding in shown]
    data = {
        "dataset": dataset,
        "warnings": list(warnings),
        "classes": list(classes),
        "splits": list(SPLITS),
        "who": who,
        "columns": list(COLUMNS),
        "fixes": [{name: value for name, value in asdict(fix).items() if name in COLUMNS} for fix in fixes],
        "kinds": [
            dict(zip(("kind", "title", "about", "total"), (kind, *TITLES.get(kind, (kind, "")), total), strict=True))
            for kind, total in counts.items()
        ],
        "findings": listed,
        "images": drawn.found,
    }
    render.write_page(
        path,
        "darkroom.audit.page",
        "Darkroom: data audit",
        data,
        styles=["page.css"],
        scripts=["page.js"],
        shared=["decisions.css", "decisions.js"],
    )


def current_user(root: Path) -> str:
    """The name that git knows the user by in ``root``, else that of the account; empty if neither is known."""
    try:
        asked = subprocess.run(["git", "config", "user.name"], cwd=root, capture_output=True, text=True, check=False)
        name = asked.stdout.strip()
    except OSError:  # no git
        name = ""
    try:
        return name or getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in containers
        return ""


def title_of(kind: str) -> str:
    """What findings of a kind are called."""
    return TITLES.get(kind, (kind, ""))[0]


def kinds_of(findings: Iterable[Finding]) -> list[str]:
    """The kinds of the findings, in the order of the page."""
    found = {finding.kind for finding in findings}
    return [kind for kind in TITLES if kind in found] + sorted(found - TITLES.keys())


def choose(findings: Sequence[Finding], fixes: Sequence[Fix]) -> list[Finding]:
    """The findings to show, by kind, the most suspicious first; those about which something was decided come last."""
    decided = {fix.digest for fix in fixes}
    ranked = []
    for kind in kinds_of(findings):
        own = [finding for finding in findings if finding.kind == kind]
        own.sort(key=lambda finding: (finding.digest in decided, -finding.score))
        ranked += [(rank, finding) for rank, finding in enumerate(own)]
    # As many of each kind as there are, or as there is room for.
    kept = set(sorted(range(len(ranked)), key=lambda number: ranked[number][0])[:MAX_SHOWN])
    return [finding for number, (_, finding) in enumerate(ranked) if number in kept]


class _Drawn:
    """The images of a page, each once: ``found`` as JSON values."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._numbers: dict[ImageRef, int] = {}
        self.found: list[dict[str, Any]] = []

    def add(self, image: ImageRef, side: int) -> int:
        """The number of an image, which is drawn with sides of at most ``side`` pixels if it is not there yet."""
        if image not in self._numbers:
            self._numbers[image] = len(self.found)
            pixels = self._images.pixels(image)
            self.found.append(
                {
                    "source": data_uri(pixels, side),
                    "file": self._images.file(image),
                    "label": self._images.label(image),
                    "split": image.split,
                }
            )
        return self._numbers[image]


def _listed(finding: Finding, applied: Sequence[Fix], drawn: _Drawn) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "image": drawn.add(finding.image, SIDE),
        "file": finding.file,
        "split": finding.image.split,
        "digest": finding.digest,
        "given": _given(finding, applied),
        "suggested": finding.suggested,
        "reason": finding.reason,
        "score": finding.score,
        "neighbors": [drawn.add(each, NEIGHBOR_SIDE) for each in finding.neighbors[:MAX_NEIGHBORS]],
    }


def _given(finding: Finding, applied: Sequence[Fix]) -> str:
    """The label of an image before any fix: that of a finding may be one that a fix has given it."""
    own = [fix for fix in applied if fix.digest == finding.digest]
    if any(fix.given == finding.label for fix in own):
        return finding.label
    return next((fix.given for fix in own if fix.decision == "relabel" and fix.new == finding.label), finding.label)
