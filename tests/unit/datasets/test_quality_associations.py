"""A class that can be told from its files is named with the strength of it; chance is not."""

import numpy as np
import pytest

from darkroom.datasets.quality.associations import find_associations
from darkroom.datasets.quality.attributes import Attribute, attributes_of
from darkroom.datasets.quality.measures import Measures
from darkroom.datasets.source import DecodedDataset

CLASSES = ("cat", "dog")


def dataset(count=200, *, files=None, sizes=None, table=None):
    """Pictures of noise, whose files, sizes and further columns are given."""
    images = np.random.default_rng(0).integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    return DecodedDataset(
        images, np.arange(count) % 2, np.full(count, ""), CLASSES,
        names=tuple(files or (f"{row}.png" for row in range(count))),
        original_sizes=np.full((count, 2), 300) if sizes is None else np.array(sizes),
        attributes={name: np.array(values, dtype=object) for name, values in (table or {}).items()},
    )  # fmt: skip


def attributes(decoded):
    rows = np.arange(len(decoded.labels))
    return {each.name: each for each in attributes_of(decoded, rows, Measures.of(decoded.images, rows))}


def associations(decoded, labels=None, groups=None):
    labels = decoded.labels if labels is None else labels
    found = find_associations(list(attributes(decoded).values()), labels, CLASSES, groups)
    return {each.attribute: each for each in found}


def planted(count=200, exceptions=0):
    """Cats are PNG files of 640x480 pixels, dogs JPEG files of 800x600, but for some that are swapped."""
    label = np.arange(count) % 2
    label[:exceptions] = 1 - label[:exceptions]
    return dataset(
        count,
        files=[f"{row}.{('png', 'jpg')[each]}" for row, each in enumerate(label)],
        sizes=[((480, 640), (600, 800))[each] for each in label],
    )


def test_classes_of_other_files_are_named_with_the_effect_size():
    found = associations(planted())
    assert [name for name, each in found.items() if each.strong] == ["size in pixels", "type"]
    size, kind = found["size in pixels"], found["type"]
    assert (size.of, size.test, size.effect_size) == ("file", "Kruskal-Wallis", "epsilon squared")
    assert (kind.of, kind.test, kind.effect_size) == ("file", "chi-square", "Cramer's V")
    for each in (size, kind):
        assert each.effect == pytest.approx(1, abs=1e-6)
        assert (each.balanced_accuracy, each.told, each.chance) == (1, 1, 0.5)
        assert each.p_value < 1e-30
    assert "aspect ratio" not in found  # which is the same of all


def test_exceptions_lower_the_effect_by_what_they_are():
    found = associations(planted(200, exceptions=20))["type"]
    # A table of 90 and 10 in each row: phi is 0.8, and Bergsma's correction takes 1 / 199 from its square.
    correction = 1 / 199
    expected = np.sqrt((0.8**2 - correction) / (1 - correction))
    assert found.effect == pytest.approx(expected, rel=1e-9)
    assert (found.told, found.balanced_accuracy) == pytest.approx((0.9, 0.9))
    assert found.strong


def test_one_class_of_ten_in_other_files_is_named():
    labels = np.arange(500) % 10
    values = (labels == 7).astype(float)
    (found,) = find_associations([Attribute("type", "file", values, True)], labels, [f"class {n}" for n in range(10)])
    assert (found.label, found.told, found.strong) == ("class 7", 1, True)
    assert found.balanced_accuracy == pytest.approx(0.2)


def test_a_small_difference_among_many_images_is_significant_and_not_strong():
    labels = np.arange(20_000) % 2
    values = np.random.default_rng(0).normal(0.2 * labels)
    (found,) = find_associations([Attribute("size in pixels", "file", values)], labels, CLASSES)
    assert found.p_value < 1e-10
    assert 0.5 < found.told < 0.6
    assert not found.strong


def test_shuffled_labels_are_hardly_ever_named():
    generator = np.random.default_rng(0)
    columns = list(attributes(planted(60)).values())
    alarms = 0
    for _ in range(200):
        labels = generator.permutation(np.arange(60) % 2)
        found = find_associations(columns, labels, CLASSES)
        alarms += any(each.strong for each in found)
    assert alarms <= 10  # 5 %


def test_the_p_value_counts_how_many_attributes_were_looked_at():
    labels = np.arange(40) % 2
    values = np.random.default_rng(3).normal(1.5 * labels)
    one, *_ = find_associations([Attribute("a", "file", values)], labels, CLASSES)
    three = find_associations([Attribute(name, "file", values) for name in "abc"], labels, CLASSES)
    assert [each.p_value for each in three] == pytest.approx([3 * one.p_value] * 3)


def test_a_group_is_not_told_from_its_other_images():
    # Each of 40 cameras has its own size, and took five pictures of one class.
    groups = np.repeat(np.arange(40), 5)
    labels = np.random.default_rng(0).permutation(np.arange(40) % 2)[groups]
    values = [Attribute("size in pixels", "file", groups.astype(float))]
    (apart,) = find_associations(values, labels, CLASSES)
    (together,) = find_associations(values, labels, CLASSES, groups)
    assert apart.told > 0.8
    assert together.told < 0.7


@pytest.mark.parametrize("labels", [np.arange(18) % 2, np.array([0] * 30 + [1] * 9)])
def test_nothing_is_said_of_few_images(labels):
    assert find_associations([Attribute("type", "file", labels.astype(float), True)], labels, CLASSES) == []


# --- attributes --------------------------------------------------------------------------------------


def test_other_ways_to_write_a_type_are_the_same_type():
    files = [f"{row}.{suffix}" for row, suffix in enumerate(["jpg", "JPEG", "jpe", "png", "tif", "tiff"])]
    values = attributes(dataset(6, files=files))["type"].values
    assert values[0] == values[1] == values[2] != values[3]
    assert values[4] == values[5] != values[3]


def test_columns_of_a_table_are_categories_or_numbers_and_names_are_neither():
    count = 60
    found = attributes(
        dataset(
            count,
            table={
                "camera": ["a", "b", "c"] * 20,
                "age": [str(row / 2) for row in range(count)],
                "note": [f"note {row}" for row in range(count)],
                "empty": [""] * count,
            },
        )
    )
    assert {name for name, each in found.items() if each.of == "table"} == {"camera", "age"}
    assert found["camera"].is_category
    assert found["age"].values.tolist() == [row / 2 for row in range(count)]


def test_values_of_which_each_image_has_one_of_its_own_say_nothing():
    decoded = dataset(20, table={"url": [f"u{row}" for row in range(20)]})

    assert "url" not in associations(decoded)
