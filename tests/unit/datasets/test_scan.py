"""What one look at the pixels tells of each image."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from darkroom.data import memmap
from darkroom.datasets.scan import scan


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 12), st.sampled_from([1, 3]), st.just(2), st.just(2)]),
                  elements=st.sampled_from([0, 7, 255])),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_copies_and_values_are_those_of_each_image(images, random):
    shuffled = random.sample(range(len(images)), len(images))
    cut = random.randint(1, len(images))
    rows = {"train": np.array(shuffled[:cut]), "val": np.array(shuffled[cut:], dtype=int), "test": np.array([], int)}
    found = scan(images, rows)
    contents = [images[row].tobytes() for row in shuffled]
    assert found.rows.tolist() == shuffled
    assert found.splits.tolist() == [0] * cut + [1] * (len(images) - cut)
    assert found.originals.tolist() == [contents.index(content) for content in contents]
    assert found.lows.tolist() == [images[row].min(axis=(1, 2)).tolist() for row in shuffled]
    assert found.highs.tolist() == [images[row].max(axis=(1, 2)).tolist() for row in shuffled]
    assert found.levels == tuple(sorted(set(images[rows["train"]].ravel().tolist())))


def test_a_file_of_several_chunks_is_looked_at_like_an_array(tmp_path, monkeypatch):
    monkeypatch.setattr(memmap, "CHUNK_BYTES", 64)
    images = memmap.allocate(tmp_path / "images.bin", (30, 1, 4, 4))
    images[:] = np.arange(30, dtype=np.uint8)[:, None, None, None] % 20
    rows = {"train": np.arange(25), "test": np.arange(25, 30)}
    found = scan(images, rows)
    assert found.originals.tolist() == [*range(20), *range(10)]
    assert found.highs[:, 0].tolist() == [*range(20), *range(10)]
    # More than two, of which the rest need not be known.
    assert len(found.levels) > 2


def test_the_values_are_those_of_the_first_split_alone():
    images = np.array([0, 255, 100, 200], dtype=np.uint8)[:, None, None, None]
    assert scan(images, {"train": np.array([0, 1]), "test": np.array([2, 3])}).levels == (0, 255)
