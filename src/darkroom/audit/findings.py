"""What the audit found: suspicious images of the cache."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageRef:
    """An image in the cache: its split, and its row there."""

    split: str
    row: int


@dataclass(frozen=True)
class Finding:
    """One suspicious image.

    ``kind`` is "label", "near-duplicate", "leak", "unlike its class", "unlike all", "dark", "bright", "blurred",
    "one color", "odd size" or "odd shape". ``file``, ``digest`` (32 hexadecimal digits) and ``label`` are those of
    files.csv; ``reason`` is for people. ``score`` is 0 to 1, higher is more suspicious. ``suggested`` is the class that
    is believed instead; ``neighbors`` are images to compare with.
    """

    kind: str
    image: ImageRef
    file: str
    digest: str
    label: str
    reason: str
    score: float
    suggested: str | None = None
    neighbors: tuple[ImageRef, ...] = ()
