"""What lies between two datasets is found by the images' contents, whatever their names."""

import gzip
import json

import numpy as np
import pytest
from tests.unit.data.test_cache import IMAGES, LABELS, ROWS

from darkroom.data import cache
from darkroom.data.cache import SPLITS
from darkroom.data.difference import LISTING, Listing, changed_classes, difference, keep_listing
from darkroom.data.digests import content_digest, stack
from darkroom.errors import DataError


def listing(*images):
    """A list of images, each as (content, class, split)."""
    contents, names, splits = zip(*images, strict=True)
    classes = tuple(sorted(set(names)))
    return Listing(
        classes,
        [f"{name}/{content}.png" for content, name, _ in images],
        np.array([classes.index(name) for name in names]),
        np.array([SPLITS.index(split) for split in splits]),
        stack(content_digest(content.encode()) for content in contents),
    )


BEFORE = listing(
    ("tom", "cat", "train"), ("kit", "cat", "test"), ("rex", "dog", "train"), ("ace", "dog", "test"),
    ("old", "fish", "val"),
)  # fmt: skip


def found(*images):
    return difference(BEFORE, listing(*images)).as_json()


def test_the_same_images_do_not_differ():
    same = difference(BEFORE, BEFORE).as_json()

    assert same["images"] == {"a": 5, "b": 5, "in_both": 5}
    assert [same[kind]["count"] for kind in ("added", "removed", "relabeled", "moved")] == [0, 0, 0, 0]
    assert same["comparable_test_images"] == 2


def test_what_was_added_removed_relabeled_and_moved_is_counted_with_examples():
    now = found(
        ("tom", "cat", "test"), ("kit", "dog", "test"), ("rex", "dog", "train"), ("ace", "dog", "test"),
        ("new", "bird", "train"), ("hen", "bird", "test"), ("cub", "cat", "val"),
    )  # fmt: skip

    assert now["images"] == {"a": 5, "b": 7, "in_both": 4}
    assert now["classes"] == {"came": ["bird"], "went": ["fish"]}
    assert now["added"] == {
        "count": 3, "kinds": {"bird": 2, "cat": 1}, "examples": ["bird/new.png", "bird/hen.png", "cat/cub.png"],
    }  # fmt: skip
    assert now["removed"] == {"count": 1, "kinds": {"fish": 1}, "examples": ["fish/old.png"]}
    assert now["relabeled"] == {"count": 1, "kinds": {"cat → dog": 1}, "examples": ["dog/kit.png"]}
    assert now["moved"] == {"count": 1, "kinds": {"train → test": 1}, "examples": ["cat/tom.png"]}
    assert now["comparable_test_images"] == 1
    json.dumps(now)


def test_a_class_that_was_renamed_is_relabeled():
    renamed = [("tom", "cat", "train"), ("kit", "cat", "test"), ("rex", "hound", "train"), ("ace", "hound", "test")]
    now = found(*renamed, ("old", "fish", "val"))

    assert now["classes"] == {"came": ["hound"], "went": ["dog"]}
    assert now["relabeled"]["kinds"] == {"dog → hound": 2}
    assert (now["added"]["count"], now["removed"]["count"]) == (0, 0)


def test_a_further_copy_is_added_and_does_not_stand_for_another():
    now = found(
        ("kit", "dog", "train"), ("tom", "cat", "train"), ("kit", "cat", "test"), ("rex", "dog", "train"),
        ("ace", "dog", "test"), ("old", "fish", "val"),
    )  # fmt: skip

    assert now["added"] == {"count": 1, "kinds": {"dog": 1}, "examples": ["dog/kit.png"]}
    assert (now["relabeled"]["count"], now["moved"]["count"]) == (0, 0)


def test_changed_classes_are_told_in_words_and_many_are_counted():
    assert changed_classes(["cat", "dog"], ["dog", "cat"]) == ""
    assert changed_classes(["cat", "fish"], ["owl", "cat", "hen"]) == "hen, owl came; fish went"
    assert changed_classes([], list("abcdefg")) == "a, b, c, d, e and 2 more came"


@pytest.mark.parametrize("names", [[], [f"folder, {number}.png" for number in range(12)]])
def test_the_list_of_a_cache_is_kept_and_read(tmp_path, names):
    place, report, again = (tmp_path / name for name in ("cache", "report", "again"))
    for directory in (place, report, again):
        directory.mkdir()
    cache.write(place, IMAGES, LABELS, ROWS, name="pets", classes=["b", "a"], names=names, settings={})

    for directory in (report, again):
        keep_listing(place, directory)

    assert (report / LISTING).read_bytes() == (again / LISTING).read_bytes()
    rows = np.concatenate([ROWS[split] for split in SPLITS])
    for kept in (Listing.read(report / LISTING), Listing.read(place / "files.csv")):
        assert [kept.classes[label] for label in kept.labels] == ["ba"[label] for label in LABELS[rows]]
        assert kept.splits.tolist() == [0] * 7 + [1] * 2 + [2] * 3
        assert np.array_equal(kept.digests, stack(content_digest(IMAGES[row].tobytes()) for row in rows))
        assert kept.names[7] == (names[2] if names else "val image 0")


@pytest.mark.parametrize("further", ["patient,age", "height,width"])
def test_further_columns_do_not_matter(tmp_path, further):
    path = tmp_path / LISTING
    header = f"split,row,file,class,digest,{further}\n"
    path.write_bytes(gzip.compress(f"{header}test,0,a.png,cat,{'0' * 32},1,44\n".encode()))
    assert Listing.read(path).names == ["a.png"]


@pytest.mark.parametrize("text", ["split,row,file\ntest,0,a.png\n", "split,row,file,class,digest\n", "\0" * 1000])
@pytest.mark.parametrize("kept", [0, 15, -9, None])
def test_a_list_that_is_damaged_or_lacks_columns_is_refused(tmp_path, text, kept):
    path = tmp_path / LISTING
    path.write_bytes(gzip.compress(text.encode())[:kept])

    with pytest.raises(DataError, match=r"files\.csv\.gz: not the list of a dataset's images"):
        Listing.read(path)
