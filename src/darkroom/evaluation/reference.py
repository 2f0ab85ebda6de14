"""What a server holds a model's answers against: what the model said of the validation split."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from darkroom.data.ink import Ink
from darkroom.errors import ModelError
from darkroom.files import check_format, read_json, write_json

REFERENCE = "reference.json"
MADE_BY = "darkroom evaluate"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Reference:
    """What the model said of the ``images`` of the validation split.

    ``temperature`` divides its logits to make calibrated probabilities; ``confidence`` is the mean calibrated
    probability of the class that it predicts, ``class_shares`` how often it predicts each class; ``energy_threshold``
    is the energy above which an image is unlike the training images, ``unlike_share`` the share of the split above it.
    ``ink`` is the layout of the training images, if they are signs drawn on an empty ground.
    """

    temperature: float
    confidence: float
    class_shares: tuple[float, ...]
    energy_threshold: float
    unlike_share: float
    images: int
    ink: Ink | None = None
    format_version: int = FORMAT_VERSION

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what ``write`` has written. Raises ModelError."""
        found = read_json(path, error=ModelError, made_by=MADE_BY)
        check_format(found, FORMAT_VERSION, path, error=ModelError, made_by=MADE_BY)
        try:
            ink = Ink(**found["ink"]) if found["ink"] else None
            fields: dict[str, Any] = found | {"class_shares": tuple(found["class_shares"]), "ink": ink}
            return cls(**fields)
        except (KeyError, TypeError) as problem:
            raise ModelError(f"{path}: damaged ({problem}); run `{MADE_BY}` again") from None

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))


def calibrated(logits, temperature):
    from scipy.special import softmax

    return softmax(logits.astype("float64") / temperature, axis=1)


def energies(logits):
    from scipy.special import logsumexp

    return -logsumexp(logits.astype("float64"), axis=1)
