"""The settings of `darkroom audit`."""

from pydantic import Field

from darkroom.config.settings.section import Section


class Audit(Section):
    """The cross-validation of `darkroom audit`: every image is judged by a model that has not seen it."""

    folds: int = Field(5, ge=2, le=50, description="parts of the data; each is judged by a model of all others")
    epochs: int | None = Field(
        None, ge=1, le=10_000, description="of each model; empty: train.epochs, fewer for more than 15,000 images"
    )
