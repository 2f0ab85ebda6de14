"""How good a classifier is on the test images that it cannot know from training."""

import numpy as np
from numpy.typing import NDArray

from darkroom.evaluation.metrics import Evaluation, accuracy_interval


def without_leaked(found: Evaluation, leaked: NDArray[np.bool_]) -> dict[str, float]:
    """The accuracy with its 95 % Wilson interval without the images that are ``leaked`` bool [N], and their number.

    Empty if none is leaked; only their number if all are.
    """
    count: dict[str, float] = {"leaked_images": int(leaked.sum())}
    if leaked.all() or not leaked.any():
        return count if leaked.any() else {}
    right = (found.predicted == found.labels)[~leaked]
    low, high = accuracy_interval(int(right.sum()), len(right))
    return {
        "accuracy_without_leaked": float(right.mean()),
        "accuracy_without_leaked_low": low,
        "accuracy_without_leaked_high": high,
        **count,
    }
