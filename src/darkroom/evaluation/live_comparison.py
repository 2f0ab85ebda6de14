"""Two models on live traffic: how often they answer differently and, as far as labels are known, which is better."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.evaluation import sequential


@dataclass(frozen=True)
class LiveComparison:
    """What is known of the versions ``a`` and ``b``, which both have answered ``images``.

    They answered ``different`` of these differently, since the server was started. ``pictures`` that they ever answered
    differently are kept, each once, and ``labeled`` of them have a label: on ``losses`` only ``a`` is right, on
    ``gains`` only ``b``. ``alpha`` is the risk of calling either better that is not, over all looks together.
    """

    a: str
    b: str
    images: int
    different: int
    pictures: int
    labeled: int
    losses: int
    gains: int
    alpha: float

    @property
    def verdict(self) -> sequential.Verdict:
        return sequential.verdict(self.losses, self.gains, self.alpha)

    @property
    def gain_interval(self) -> tuple[float, float]:
        """The share of gains among losses and gains, valid for all looks together."""
        return sequential.gain_interval(self.losses, self.gains, self.alpha)

    @property
    def difference(self) -> float | None:
        """The accuracy of ``b`` less that of ``a``, estimated; None without labels."""
        if not (self.images and self.labeled):
            return None
        return self.different / self.images * (self.gains - self.losses) / self.labeled

    @property
    def headline(self) -> str:
        """The result, in a sentence."""
        if not (self.images or self.pictures):
            return f"Version {self.b} has not answered any live picture yet."
        if not self.labeled:
            return (
                f"Version {self.b} answers {self.different:,} of {self.images:,} live pictures differently from "
                f"version {self.a}; labels will say which is right."
            )
        decisive = self.losses + self.gains
        low, high = self.gain_interval
        found = (
            f"version {self.b} is right on {self.gains:,} of the {decisive:,} pictures on which only one version is "
            f"({low:.1%} to {high:.1%}, however often one looks)"
        )
        if self.verdict == "undecided":
            return f"Not decided yet: {found}."
        return f"Version {self.b} is {self.verdict} than version {self.a}: {found}."

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        low, high = self.gain_interval
        return {
            "headline": self.headline,
            "verdict": self.verdict,
            "a": self.a,
            "b": self.b,
            "images": self.images,
            "different": self.different,
            "pictures": self.pictures,
            "labeled": self.labeled,
            "losses": self.losses,
            "gains": self.gains,
            "alpha": self.alpha,
            "gain_interval": [low, high],
            "difference": self.difference,
        }


def count_outcomes(answers: Iterable[tuple[str, str, str]], labels: Mapping[str, str]) -> tuple[int, int, int]:
    """How many pictures have a label, on how many only the first answer is right, and on how many only the second.

    ``answers`` has the digest and both answers of each picture, which differ; ``labels`` the label for each digest.
    """
    found = [(labels[digest], first, second) for digest, first, second in answers if digest in labels]
    losses = sum(label == first for label, first, _ in found)
    gains = sum(label == second for label, _, second in found)
    return len(found), losses, gains
