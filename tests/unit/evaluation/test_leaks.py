"""The accuracy without the test images that leaked."""

import numpy as np
import pytest

from darkroom.evaluation.leaks import without_leaked
from darkroom.evaluation.metrics import accuracy_interval, measure

LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1])
PREDICTED = np.array([0, 1, 0, 1, 0, 0, 1, 1])


@pytest.fixture
def found():
    return measure(np.eye(2)[PREDICTED] * 3, LABELS, ("cat", "dog"), top_k=1, bins=5)


def test_the_accuracy_is_of_the_other_images(found):
    leaked = np.array([True, True, False, False, False, False, False, False])
    low, high = accuracy_interval(4, 6)
    assert without_leaked(found, leaked) == {
        "accuracy_without_leaked": pytest.approx(4 / 6),
        "accuracy_without_leaked_low": low,
        "accuracy_without_leaked_high": high,
        "leaked_images": 2,
    }


def test_nothing_is_told_where_none_leaked(found):
    assert without_leaked(found, np.zeros(8, bool)) == {}


def test_where_all_leaked_there_is_no_other_accuracy(found):
    assert without_leaked(found, np.ones(8, bool)) == {"leaked_images": 8}
