"""Images are found again by their contents, each once."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.data.digests import as_hex, content_digest, from_hex, match, number, stack

CONTENTS = st.lists(st.sampled_from(["cat", "dog", "owl", "fox"]), max_size=12)


def test_a_digest_is_blake2b_of_128_bits():
    assert content_digest(b"a picture").hex() == hashlib.blake2b(b"a picture", digest_size=16).hexdigest()


@given(st.lists(st.binary(max_size=5), max_size=20))
def test_digests_are_read_as_they_were_written(contents):
    digests = stack(map(content_digest, contents))

    assert digests.shape == (len(contents), 16)
    written = list(as_hex(digests))
    assert written == [content_digest(content).hex() for content in contents]
    if contents:
        assert np.array_equal(from_hex(written), digests)


@pytest.mark.parametrize("texts", [[], [""], ["ab" * 16, ""], ["ab" * 15], ["xy" * 16], ["ab" * 17, "ab" * 15]])
def test_what_is_no_list_of_digests_is_none(texts):
    assert from_hex(texts) is None


@given(CONTENTS, CONTENTS)
def test_equal_digests_have_equal_numbers(a, b):
    numbers = np.concatenate(number(*(stack(content_digest(each.encode()) for each in side) for side in (a, b))))

    together = a + b
    for row, content in enumerate(together):
        assert [numbers[row] == other for other in numbers] == [content == other for other in together]


@given(CONTENTS, CONTENTS)
def test_copies_are_matched_one_to_one(a, b):
    kinds = {content: place for place, content in enumerate(sorted({*a, *b}))}
    rows_a, rows_b = match([np.array([kinds[each] for each in a], int)], [np.array([kinds[each] for each in b], int)])

    assert [a[row] for row in rows_a] == [b[row] for row in rows_b]
    assert len(set(rows_a)) == len(set(rows_b)) == len(rows_a)
    assert Counter(b[row] for row in rows_b) == Counter(a) & Counter(b)
    assert list(rows_b) == sorted(rows_b)
    for content in kinds:  # the first copy with the first, the second with the second
        assert [row for row in rows_a if a[row] == content] == sorted(row for row in rows_a if a[row] == content)


def test_copies_that_share_more_go_together_before_those_that_share_less():
    digests, classes_a, classes_b = np.zeros(2, int), np.array([0, 1]), np.array([1, 0])
    assert [rows.tolist() for rows in match([digests, classes_a], [digests, classes_b])] == [[1, 0], [0, 1]]

    # One copy was of another class: the other one is the same, and this one changed.
    classes_b = np.array([2, 0])
    assert [rows.tolist() for rows in match([digests, classes_a], [digests, classes_b])] == [[1, 0], [0, 1]]
