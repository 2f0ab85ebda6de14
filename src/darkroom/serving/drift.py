"""Whether the images that a model is asked about have become others than those it was validated on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2_contingency, hypergeom

from darkroom.evaluation.metrics import Floats, Ints
from darkroom.evaluation.prediction_sets import Members, PredictionSets
from darkroom.evaluation.reference import Reference
from darkroom.serving.window import Window

# Fewer images show more about the person who sent them than about the model's use.
LEAST_IMAGES = 30
# Of each of the two tests, at one look: the window slides, and is looked at again and again. Of 800 streams of 20,000
# images like those of the split, looked at every 50 images, none was warned of; at 1e-4 twelve were.
ALPHA = 1e-5
# Images of a class that a window is expected to hold, for the chi-square approximation; rarer classes count as one.
LEAST_EXPECTED = 5


class DriftWatch:
    """What a model said of the latest ``window`` images, compared with what it said of the validation split.

    Of 1,000 images of MNIST, five in a hundred that are clothes are warned of in every of 100 trials, and 1.5 times as
    many zeros in 10, twice as many in 92.

    It belongs to one thread, as the server's event loop, or to those of several processes that share ``file``. Adding
    an image takes the same time however many there were; the statistics are computed on demand.
    """

    def __init__(
        self,
        reference: Reference,
        classes: Sequence[str],
        window: int,
        file: Path | None = None,
        sets: PredictionSets | None = None,
    ) -> None:
        self.reference = reference
        self.classes = classes
        self.sets = sets
        self._latest = Window(window, file)

    def add(self, labels: Ints, confidences: Floats, energies: Floats, members: Members | None = None) -> None:
        """Count images, each [n]: the class predicted, its calibrated probability, and the energy.

        ``members`` bool [n, classes] are their prediction sets, if there are any.
        """
        sizes = np.zeros(len(labels), np.int64) if members is None else members.sum(axis=1)
        self._latest.add(labels, confidences, energies > self.reference.energy_threshold, sizes)

    @property
    def images(self) -> int:
        """The images in the window, which fills first."""
        return len(self._latest)

    @property
    def unlike_share(self) -> float | None:
        """The share of the window that is unlike the training images; None while it is empty."""
        return float(self._latest.unlike.mean()) if self.images else None

    @property
    def confidence(self) -> float | None:
        """The mean calibrated probability of the predicted classes; None while the window is empty."""
        return float(self._latest.confidences.mean(dtype=np.float64)) if self.images else None

    @property
    def set_size(self) -> float | None:
        """The mean size of the prediction sets; None without any, and while the window is empty."""
        return float(self._latest.set_sizes.mean()) if self.sets and self.images else None

    @property
    def class_counts(self) -> Ints:
        """How often each class is predicted in the window, int64 [classes]."""
        return np.bincount(self._latest.labels, minlength=len(self.classes))

    def report(self) -> dict[str, Any]:
        """All statistics with ``warning``, as JSON values: one line if the images differ by more than chance."""
        return self.metrics() | {"warning": self.warning()}

    def metrics(self) -> dict[str, Any]:
        """The window and what is expected of it, as JSON values."""
        reference, counts = self.reference, self.class_counts
        shares = (counts / self.images).tolist() if self.images else [None] * len(counts)
        return {
            "images": self.images,
            "window": self._latest.size,
            "unlike_share": self.unlike_share,
            "expected_unlike_share": reference.unlike_share,
            "confidence": self.confidence,
            "expected_confidence": reference.confidence,
            "set_size": self.set_size,
            "expected_set_size": self.sets.expected_size if self.sets else None,
            "classes": [
                {"label": label, "share": share, "expected": expected}
                for label, share, expected in zip(self.classes, shares, reference.class_shares, strict=True)
            ],
        }

    def warning(self) -> str | None:
        """What differs by more than chance, None if nothing does or there are too few images to tell."""
        if self.images < LEAST_IMAGES:
            return None
        found = [each for each in (self._unlike_warning(), self._class_warning()) if each]
        return f"of the latest {self.images:,} images {', and '.join(found)}" if found else None

    def _unlike_warning(self) -> str | None:
        reference, images = self.reference, self.images
        above = round(reference.unlike_share * reference.images)
        count = int(self._latest.unlike.sum())
        # Fisher's exact test: the threshold is itself known from so many images only.
        chance = hypergeom.sf(count - 1, reference.images + images, above + count, images)
        if chance >= ALPHA:
            return None
        return f"{self.unlike_share:.1%} are unlike the training images, expected {reference.unlike_share:.1%}"

    def _class_warning(self) -> str | None:
        reference = self.reference
        expected = np.array(reference.class_shares)
        table = np.stack([self.class_counts, np.rint(expected * reference.images)])
        is_rare = table.sum(axis=0) * self.images / table.sum() < LEAST_EXPECTED
        pooled = np.column_stack([table[:, ~is_rare], table[:, is_rare].sum(axis=1)])
        pooled = pooled[:, pooled.any(axis=0)]
        if pooled.shape[1] < 2 or chi2_contingency(pooled, correction=False).pvalue >= ALPHA:
            return None
        gaps = np.abs(self.class_counts / self.images - expected)
        most = int(gaps.argmax())
        share = self.class_counts[most] / self.images
        return f"{share:.1%} are taken for {self.classes[most]!r}, expected {expected[most]:.1%}"
