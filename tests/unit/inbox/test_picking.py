"""Which pictures are labeled first."""

import numpy as np
import pytest

from darkroom.inbox.picking import margins, pick


def test_the_margin_is_between_the_two_most_probable_classes():
    assert margins(np.array([[0.5, 0.1, 0.4], [0.2, 0.2, 0.6]])) == pytest.approx([0.1, 0.4])


def test_the_least_decided_come_first_where_all_are_equally_far_apart():
    lead = np.array([0.9, 0.1, 0.5, 0.3])
    probabilities = np.stack([(1 + lead) / 2, (1 - lead) / 2], 1)
    assert pick(probabilities, np.eye(4), 4).tolist() == [1, 3, 2, 0]


def test_of_many_pictures_of_a_kind_one_is_enough():
    generator = np.random.default_rng(0)
    kinds = np.repeat(np.eye(5), [200, 200, 200, 3, 3], axis=0)
    features = kinds + generator.normal(0, 0.01, kinds.shape)
    # The two rare kinds are better decided than the others.
    lead = np.repeat([0.1, 0.1, 0.1, 0.3, 0.3], [200, 200, 200, 3, 3])
    chosen = pick(np.stack([(1 + lead) / 2, (1 - lead) / 2], 1), features, 250)
    assert sorted(kinds[chosen[:5]].argmax(1).tolist()) == [0, 1, 2, 3, 4]
    assert len(set(chosen.tolist())) == 250


def test_no_more_are_chosen_than_there_are():
    probabilities = np.full((3, 2), 0.5)
    assert sorted(pick(probabilities, np.zeros((3, 4)), 10).tolist()) == [0, 1, 2]
    assert pick(probabilities[:0], np.zeros((0, 4)), 10).tolist() == []
