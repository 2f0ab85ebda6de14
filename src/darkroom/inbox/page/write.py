"""Write the page on which people label pictures of an inbox: one HTML file without any address outside."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from darkroom.images.decoder import Decoder, read_header
from darkroom.inbox.acceptance import COLUMNS
from darkroom.inbox.store import Kept
from darkroom.pages import render
from darkroom.pages.images import data_uri

# Classes with a key of their own.
SUGGESTED = 5
# Pixels of the longer side of a photograph.
SIDE = 384


@dataclass(frozen=True)
class Asked:
    """A picture to label. ``source`` is the picture as a data: URL.

    ``version`` answered ``answer`` with this ``probability`` when it was received; ``said`` is what somebody said then,
    or empty. ``suggested`` are the classes to choose from first, that one and those that the model now finds the most
    probable. ``alike`` are the digests of other pictures of the inbox that show the same.
    """

    digest: str
    source: str
    version: str
    answer: str
    probability: float
    reason: str
    received: str
    said: str
    suggested: tuple[str, ...]
    alike: tuple[str, ...]

    @classmethod
    def of(cls, kept: Kept, probabilities: Mapping[str, float], *, alike: Sequence[str] = ()) -> Self:
        """``probabilities`` are the model's, by class."""
        record, content = kept.record, kept.content()
        header = read_header(content)
        pixels = Decoder(header.channels, (header.height, header.width))(content)
        ranked = sorted(probabilities, key=lambda label: -probabilities[label])
        ranked.sort(key=lambda label: label != record.label)
        return cls(
            digest=record.digest,
            source=data_uri(pixels, SIDE),
            version=record.version,
            answer=record.answer,
            probability=record.probability,
            reason=record.reason,
            received=record.received,
            said=record.label or "",
            suggested=tuple(ranked[:SUGGESTED]),
            alike=tuple(alike),
        )


def write_page(path: Path, asked: Sequence[Asked], *, classes: Sequence[str], who: str, total: int) -> None:
    """Write the page of the pictures ``asked`` about, of ``total`` in the inbox; ``who`` labels them."""
    data = {
        "classes": list(classes),
        "columns": list(COLUMNS),
        "who": who,
        "total": total,
        "pictures": [asdict(each) for each in asked],
    }
    render.write_page(
        path,
        "darkroom.inbox.page",
        "Darkroom: inbox",
        data,
        styles=[],
        scripts=["page.js"],
        shared=["decisions.css", "decisions.js"],
    )
