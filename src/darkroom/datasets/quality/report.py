"""Judge the quality of a dataset's images, and say in a file, a picture and two lines what was found."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from darkroom.data.cache import SPLITS
from darkroom.datasets.quality.associations import Association, find_associations
from darkroom.datasets.quality.attributes import attributes_of
from darkroom.datasets.quality.flaws import KINDS, Flaw, find_flaws
from darkroom.datasets.quality.measures import Measures
from darkroom.datasets.scan import Scan
from darkroom.datasets.source import DecodedDataset
from darkroom.errors import counted
from darkroom.plotting import new_figure, shorten, show_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN_OF_A_KIND = 10
MAX_NAMED = 3


@dataclass(frozen=True)
class Quality:
    """The suspicious images among those scanned, and the attributes that hang together with their classes."""

    seen: Scan
    flaws: Sequence[Flaw]
    associations: Sequence[Association]


def judge_quality(decoded: DecodedDataset, seen: Scan) -> Quality:
    """Look at the scanned images of all splits."""
    sizes = decoded.original_sizes
    measures = Measures.of(decoded.images, seen.rows, decoder=decoded.decoder, original_sizes=sizes)
    return Quality(
        seen,
        find_flaws(measures, None if sizes is None else sizes[seen.rows]),
        find_associations(
            attributes_of(decoded, seen.rows, measures),
            decoded.labels[seen.rows],
            decoded.classes,
            None if decoded.groups is None else decoded.groups[seen.rows],
        ),
    )


def describe(quality: Quality, decoded: DecodedDataset) -> dict[str, Any]:
    """The content of quality.json; ``row`` is where an image is in its split."""
    seen = quality.seen
    starts = np.searchsorted(seen.splits, np.arange(len(SPLITS)))
    return {
        "findings": [
            {
                "split": SPLITS[seen.splits[flaw.position]],
                "row": int(flaw.position - starts[seen.splits[flaw.position]]),
                "kind": flaw.kind,
                "label": decoded.classes[decoded.labels[seen.rows[flaw.position]]],
                "file": decoded.names[seen.rows[flaw.position]] if decoded.names else "",
                "score": round(flaw.score, 4),
                "reason": flaw.reason,
            }
            for flaw in quality.flaws
        ],
        "associations": [asdict(association) for association in quality.associations],
    }


def count_flaws(quality: Quality) -> str:
    """One line, such as "3 suspicious images (2 dark, 1 blurred)"; empty if there are none.

    Images whose pixels are all the same are not counted: they are among the suspects.
    """
    is_flat = (quality.seen.lows == quality.seen.highs).all(axis=1)
    flaws = [flaw for flaw in quality.flaws if not is_flat[flaw.position]]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(flaw.kind for flaw in flaws).items())
    images = len({flaw.position for flaw in flaws})
    return f"{counted(images, 'suspicious image')} ({kinds})" if flaws else ""


def name_associations(quality: Quality) -> str:
    """One line about the classes that can be told from their files; empty if none can."""
    strong = [each for each in quality.associations if each.strong and each.of == "file"]
    if not strong:
        return ""
    named = ", ".join(
        f"{each.label!r} from the {each.attribute} ({each.told:.0%} right, 50% by chance; {each.effect_size} "
        f"{each.effect:.2f})"
        for each in strong[:MAX_NAMED]
    )
    return (
        f"classes can be told from their files without looking at the pictures: {named}; a model may learn how the "
        "pictures were made instead of what they show"
    )


def draw(quality: Quality, decoded: DecodedDataset) -> "Figure":
    """The most suspicious images of each kind, a line for each kind."""
    kinds = [kind for kind in KINDS if any(flaw.kind == kind for flaw in quality.flaws)]
    figure = new_figure(9.5, 0.6 + 1.35 * len(kinds))
    figure.suptitle("Suspicious images", x=0.01, ha="left", fontsize=12, fontweight="bold")
    cells = figure.subplots(len(kinds), DRAWN_OF_A_KIND, squeeze=False)
    for kind, line in zip(kinds, cells, strict=True):
        flaws = [flaw for flaw in quality.flaws if flaw.kind == kind]
        for axes, flaw in zip(line, flaws, strict=False):
            row = quality.seen.rows[flaw.position]
            show_image(axes, decoded.images[row])
            axes.set_title(shorten(decoded.classes[decoded.labels[row]], 12), fontsize=8)
        for axes in line[len(flaws) :]:
            axes.set_axis_off()
        line[0].set_ylabel(f"{kind}\n{len(flaws):,}", rotation=0, ha="right", va="center", fontsize=9)
    return figure
