"""The cross-validated accuracy of an audit, beside that of a small test split."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import ConfigDict, Field, with_config

from darkroom.errors import CacheError
from darkroom.utils.files import checked, read_json

METRICS = "metrics.json"
MADE_BY = "darkroom audit"
# With fewer test images their accuracy alone has a margin of error of seven points and more.
FEW_IMAGES = 200

Share = Annotated[float, Field(ge=0, le=1)]


@with_config(ConfigDict(extra="ignore"))
@dataclass(frozen=True)
class CrossValidated:
    """The accuracy over all ``images`` in ``folds``, each judged by a model that has not seen it."""

    fingerprint: str
    images: int
    folds: int
    accuracy: Share
    accuracy_low: Share
    accuracy_high: Share

    @classmethod
    def read(cls, directory: Path, fingerprint: str) -> Self | None:
        """That of the audit in ``directory``, if there is one of the data with this fingerprint. Raises CacheError."""
        path = directory / METRICS
        if not path.exists():
            return None
        content = read_json(path, error=CacheError, made_by=MADE_BY)
        found = checked(cls, content, path, error=CacheError, made_by=MADE_BY)
        return found if found.fingerprint == fingerprint else None

    def __str__(self) -> str:
        return (
            f"cross-validated accuracy {self.accuracy:.4f} (95 % interval {self.accuracy_low:.4f} to "
            f"{self.accuracy_high:.4f}) over all {self.images:,} images in {self.folds} folds"
        )


def beside(test_images: int, directory: Path, fingerprint: str) -> str:
    """What to say beside the accuracy on so many test images: the cross-validated one, or how to get it.

    Empty where there are enough test images. Raises CacheError if the audit in ``directory`` is damaged.
    """
    if test_images >= FEW_IMAGES:
        return ""
    if found := CrossValidated.read(directory, fingerprint):
        return f"the test split is small; {found}"
    return f"the test split is small; `{MADE_BY}` measures the accuracy over all images"
