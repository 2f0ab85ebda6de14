"""The reference of a model: statistics of its predictions for the validation split, which a server compares with."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, with_config

from darkroom.config.settings import Serve
from darkroom.data.glyph_layout import GlyphLayout, Ground
from darkroom.errors import ModelError
from darkroom.evaluation.metrics import Floats, Ints
from darkroom.evaluation.prediction_sets import CoverageError, LabelScores, PredictionSets, fit_label_scores
from darkroom.utils.files import EXACT, read_as, write_json

REFERENCE = "reference.json"
MADE_BY = "darkroom evaluate"
FORMAT_VERSION = 1
# One image in a hundred that is like the training images is called unlike them: what a reader of the page will bear,
# and still enough of some thousand validation images for the threshold not to hang on a few of them.
UNLIKE_SHARE = 0.01
# Of the prior of log T, around T = 1: networks are found between 0.5 and 2. It counts as much as some ten images, so
# that it decides only where the split is tiny.
PRIOR_DEVIATION = 0.5
LARGEST_LOG_TEMPERATURE = 5.0

Share = Annotated[float, Field(ge=0, le=1)]


def calibrated(logits: Floats, temperature: float) -> Floats:
    """Probabilities float64 [N, classes] of ``logits`` [N, classes] at a temperature."""
    scaled = logits.astype(np.float64) / temperature
    found: Floats = np.exp(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True))
    return found


def energies(logits: Floats) -> Floats:
    """How much each image differs from the training images, float64 [N], from its ``logits`` [N, classes].

    The energy, -log sum exp of the logits (Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020): it
    is low if the logit of some class is high. Of the measures that need only the logits, it separates best: for four
    small networks of MNIST, Fashion-MNIST and digits (88 to 99 % right) against twelve kinds of other, altered and
    empty images, up to 2,000 of each, the mean area under the ROC curve is 0.91 to 0.98, that of the highest
    probability 0.82 to 0.97. It hardly detects two overlaid images or some rotated ones, and for a network that is
    right on two thirds of CIFAR-10 it is almost useless (0.61), as are all others.
    """
    found: Floats = -np.logaddexp.reduce(logits.astype(np.float64), axis=1)
    return found


@with_config(EXACT)
@dataclass(frozen=True)
class Reference:
    """Statistics of the predictions for the ``images`` of the validation split.

    ``temperature`` divides its logits to make calibrated probabilities; ``confidence`` is the mean calibrated
    probability of the class that it predicts, ``class_shares`` how often it predicts each class; ``energy_threshold``
    is the energy above which an image is unlike the training images, ``unlike_share`` the share of the split above it.
    ``ink`` is the layout of the training images, if they are signs drawn on an empty ground. ``ground`` says whether
    that is dark or light for every image of the dataset, so that a picture on the other one is a negative; it is
    "mixed" if there are both, and None if it was not determined. ``label_scores`` are what prediction sets are made
    with, None if it was written before there were any.
    """

    temperature: Annotated[float, Field(gt=0)]
    confidence: Share
    class_shares: tuple[Share, ...]
    energy_threshold: float
    unlike_share: Share
    images: Annotated[int, Field(ge=1)]
    ink: GlyphLayout | None = None
    ground: Ground | None = None
    label_scores: LabelScores | None = None
    format_version: int = FORMAT_VERSION

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file that ``write`` wrote. Raises ModelError."""
        return read_as(cls, path, FORMAT_VERSION, error=ModelError, made_by=MADE_BY)

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    def prediction_sets(
        self, settings: Serve, classes: Sequence[str], tell: Callable[[str], None]
    ) -> PredictionSets | None:
        """The prediction sets of the coverage in ``settings``.

        None if the model has no scores for them, or if the validation split is too small for the coverage. In the
        second case ``tell`` is called with a line that says so.
        """
        if self.label_scores is None:
            return None
        try:
            return self.label_scores.sets(settings.coverage, classes, per_class=settings.coverage_per_class)
        except CoverageError as problem:
            tell(f"no prediction sets: {problem}")
            return None


def fit_reference(
    logits: Floats, labels: Ints, layout: GlyphLayout | None = None, ground: Ground | None = None
) -> Reference:
    """The reference of a model from its ``logits`` [N, classes] for the validation split, of ``labels`` [N]."""
    temperature = fit_temperature(logits, labels)
    probabilities = calibrated(logits, temperature)
    shares = np.bincount(logits.argmax(axis=1), minlength=logits.shape[1]) / len(logits)
    found = energies(logits)
    # An energy that occurred, and the higher of two: at most the wanted share of the split lies above it.
    threshold = float(np.quantile(found, 1 - UNLIKE_SHARE, method="higher"))
    return Reference(
        temperature=temperature,
        confidence=float(probabilities.max(axis=1).mean()),
        class_shares=tuple(shares.tolist()),
        energy_threshold=threshold,
        unlike_share=float((found > threshold).mean()),
        images=len(logits),
        ink=layout,
        ground=ground,
        label_scores=fit_label_scores(probabilities, found, labels),
    )


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """The temperature at which the ``labels`` [N] are the most likely, given ``logits`` [N, classes].

    By maximum likelihood (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017), with a weak prior, so
    that a few images cannot make it extreme. It is 1 where the likelihood has no maximum: without any mistake it grows
    as the temperature falls to 0, and it is the same at every temperature if no class is ever preferred.
    """
    exact = logits.astype(np.float64)
    own = exact[np.arange(len(labels)), labels]
    if (own == exact.max(axis=1)).all():
        return 1.0
    from scipy.optimize import minimize_scalar  # half a second, for which who only reads a reference does not wait

    def cost(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        likelihood = float((own * scale - np.logaddexp.reduce(exact * scale, axis=1)).sum())
        return (log_temperature / PRIOR_DEVIATION) ** 2 / 2 - likelihood

    bounds = (-LARGEST_LOG_TEMPERATURE, LARGEST_LOG_TEMPERATURE)
    return float(np.exp(minimize_scalar(cost, bounds=bounds, method="bounded").x))
