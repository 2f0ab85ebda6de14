"""What to know about an evaluation, in lines for people."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import counted
from darkroom.evaluation.metrics import Evaluation, best_guess


def caveats(found: Evaluation, classes: Sequence[str]) -> list[str]:
    """What the metrics do not show: classes without test images, whether guessing would do as well, only leaks."""
    lines = []
    if absent := int(found.summary.get("absent_classes", 0)):
        lines.append(f"{absent:,} of {len(classes):,} classes have no test image: the metrics say nothing about them")
    guessed, guess = best_guess(found.labels, classes)
    if found.summary["accuracy_low"] <= guess:
        lines.append(
            f"the model may be no better than guessing: {found.summary['accuracy']:.1%} of the test images are right, "
            f"and always answering {guessed!r} would give {guess:.1%}"
        )
    if found.summary.get("leaked_images") == len(found.labels):
        lines.append(
            "every test image shows a picture that is in train or val too: the metrics say nothing about new images"
        )
    return lines


def headline(found: Evaluation) -> str:
    """The accuracy and its interval."""
    return f"test accuracy {_with_interval(found, 'accuracy', '95 % interval ')}"


def describe_sets(found: Evaluation, coverage: float) -> str:
    """How often the prediction sets of this ``coverage`` hold the true class, and how large they are."""
    return (
        f"prediction sets of coverage {coverage:g} hold the true class of {found.summary['set_coverage']:.1%} of the "
        f"test images, with {found.summary['set_size']:.2f} labels on average"
    )


def leak_lines(found: Evaluation, resembling: NDArray[np.bool_], leaked: NDArray[np.bool_]) -> list[str]:
    """What is known of test images that resemble one of train or val: of ``resembling`` those that are ``leaked``."""
    lines = []
    if apart := int((resembling & ~leaked).sum()):
        lines.append(
            f"{counted(apart, 'test image')} {'resembles' if apart == 1 else 'resemble'} one in train or val "
            "by pixels, and the model tells them apart"
        )
    if "accuracy_without_leaked" in found.summary:
        lines.append(
            f"{_with_interval(found, 'accuracy_without_leaked')} without the "
            f"{counted(int(found.summary['leaked_images']), 'test image')} whose picture is in train or val too"
        )
    return lines


def _with_interval(found: Evaluation, metric: str, kind: str = "") -> str:
    value, low, high = (found.summary[f"{metric}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.4f} ({kind}{low:.4f} to {high:.4f})"
