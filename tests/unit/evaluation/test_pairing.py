"""Models of other data are compared on the test images that both datasets have, with the same class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.data.digests import content_digest, stack
from darkroom.evaluation.comparison import least_images, mcnemar
from darkroom.evaluation.pairing import pair_shared
from darkroom.evaluation.predictions import SplitPredictions


def answers(*images):
    """Answers for test images, each as (content, class, predicted class); the classes are those that occur."""
    classes = tuple(sorted({name for _, *names in images for name in names}))
    contents, labels, predicted = zip(*images, strict=True)
    numbers = [np.array([classes.index(name) for name in names]) for names in (labels, predicted)]
    digests = stack(content_digest(content.encode()) for content in contents)
    return SplitPredictions(classes, contents, *numbers, np.linspace(0.5, 0.9, len(images)), digests)


def test_only_images_in_both_test_splits_count_whatever_their_order():
    a = answers(("1", "cat", "cat"), ("2", "dog", "cat"), ("3", "dog", "dog"), ("gone", "cat", "dog"))
    b = answers(("new", "dog", "cat"), ("3", "dog", "cat"), ("1", "cat", "cat"), ("2", "dog", "dog"))

    found = pair_shared(a, b)

    assert found.rows.tolist() == [1, 2, 3]
    assert found.comparison.table == [[1, 1], [1, 0]]
    assert found.comparison.b.images == ("3", "1", "2")
    assert found.comparison.b.confidence.tolist() == b.confidence[1:].tolist()
    assert found.as_json() == {"shared": 3, "relabeled": 0, "images_of_a": 4, "images_of_b": 4}
    assert found.found == "3 test images are in both test splits (4 and 4 images)"


def test_images_whose_class_was_changed_are_left_out_and_counted():
    a = answers(("1", "cat", "cat"), ("2", "dog", "dog"))
    b = answers(("1", "cat", "cat"), ("2", "cat", "cat"))

    found = pair_shared(a, b)

    assert (found.rows.tolist(), found.relabeled) == ([0], 1)
    assert found.found.endswith("less 1 of another class in each")


def test_an_answer_that_one_model_alone_can_give_is_wrong():
    a = answers(("1", "cat", "fish"), ("2", "dog", "dog"), ("old", "fish", "fish"))
    b = answers(("1", "cat", "cat"), ("2", "dog", "bird"), ("new", "bird", "bird"))

    found = pair_shared(a, b).comparison

    assert found.a.classes == ("bird", "cat", "dog", "fish")
    assert found.table == [[0, 1], [1, 0]]


def test_copies_count_one_to_one():
    a = answers(("1", "cat", "cat"), ("1", "cat", "cat"), ("1", "dog", "cat"))
    b = answers(("1", "dog", "dog"), ("1", "cat", "dog"))

    found = pair_shared(a, b)

    # The copy called a dog goes with the one called a dog: neither was relabeled.
    assert (found.rows.tolist(), found.relabeled) == ([0, 1], 0)
    assert found.comparison.table == [[0, 1], [1, 0]]


def test_nothing_in_common_leaves_no_image():
    found = pair_shared(answers(("1", "cat", "dog")), answers(("2", "cat", "dog")))

    assert len(found.rows) == 0
    assert found.found == "0 test images are in both test splits (1 and 1 images)"


def test_answers_without_contents_are_not_paired():
    a = answers(("1", "cat", "dog"))
    without = SplitPredictions(a.classes, a.images, a.labels, a.predicted, a.confidence)

    for pair in ((a, without), (without, a)):
        with pytest.raises(ValueError, match="contents of their test images were not recorded"):
            pair_shared(*pair)


@given(st.floats(1e-6, 0.4999))
def test_the_fewest_images_are_those_at_which_the_exact_test_can_decide(alpha):
    images = least_images(alpha)

    assert mcnemar(0, images, "greater") < alpha <= mcnemar(0, images - 1, "greater")


@pytest.mark.parametrize(("alpha", "images"), [(0.05, 5), (0.25, 3), (0.01, 7)])
def test_the_fewest_images_at_common_risks(alpha, images):
    assert least_images(alpha) == images
