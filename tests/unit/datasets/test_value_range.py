"""Images of more than 8 bits: one range of values for all, found in the train split, that keeps what they show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.datasets.folders import decoded
from tests.unit.images.forms import levels
from tests.unit.images.image_files import encoded, png, tiff

from darkroom.errors import DataError
from darkroom.images.decoder import Decoder
from darkroom.images.depth import FULL, Sampled, choose_range, to_bytes

GENERATOR = np.random.default_rng(0)
SIDE = 16


def files(make, levels, splits=("train", "val", "test"), count=4):
    """Two classes of pictures around their level, in each split: {name: content}."""
    return {
        f"{split}/{kind}/{number}": make(level)
        for split in splits
        for kind, level in zip("ab", levels, strict=True)
        for number in range(count)
    }


def named(content, suffix):
    return {f"{name}.{suffix}": each for name, each in content.items()}


def around(level, sigma, dtype, low=None, high=None):
    values = GENERATOR.normal(level, sigma, (SIDE, SIDE))
    return np.clip(values, low, high).astype(dtype) if low is not None else values.astype(dtype)


def classes_apart(found):
    """How many gray levels the means of the two classes differ by."""
    means = found.images.reshape(len(found.images), -1).mean(1)
    return abs(means[found.labels == 0].mean() - means[found.labels == 1].mean())


def test_sixteen_bits_that_hold_eight_keep_every_level(tmp_path):
    values = np.arange(256, dtype=np.uint16).reshape(SIDE, SIDE)
    found = decoded(tmp_path, named(files(lambda level: encoded(values + 0 * level), (0, 1)), "png"))
    assert found.decoder.value_range == (0, 255)
    assert (found.images == values.astype(np.uint8)).all()


def test_twelve_bits_of_narrow_contrast_keep_their_classes_apart(tmp_path):
    found = decoded(
        tmp_path, named(files(lambda level: encoded(around(level, 12, np.uint16, 780, 1060)), (990, 820)), "png")
    )
    low, high = found.decoder.value_range
    assert 770 <= low < high <= 1070
    assert classes_apart(found) > 100


def test_signed_values_keep_their_order(tmp_path):
    found = decoded(tmp_path, named(files(lambda level: tiff(around(level, 20, np.int16)), (-800, 0)), "tif"))
    assert found.decoder.value_range[0] < -700
    assert classes_apart(found) > 150
    assert found.images.std() > 20


def test_floats_of_different_brightness_stay_different(tmp_path):
    found = decoded(tmp_path, named(files(lambda level: tiff(around(level, level / 20, np.float32)), (15, 150)), "tif"))
    assert classes_apart(found) > 150


def test_negative_floats_are_not_black(tmp_path):
    found = decoded(tmp_path, named(files(lambda level: tiff(around(level, 0.05, np.float32)), (-0.9, -0.1)), "tif"))
    assert classes_apart(found) > 120


def test_reflectance_below_3000_uses_most_of_the_levels(tmp_path):
    make = lambda level: tiff(GENERATOR.uniform(0, 3000, (SIDE, SIDE)).astype(np.uint16))  # noqa: E731
    found = decoded(tmp_path, named(files(make, (0, 0)), "tif"))
    assert len(np.unique(found.images)) > 200


@pytest.mark.parametrize("hole", [3.4e38, -3.4e38, np.nan, np.inf])
def test_what_is_no_measurement_does_not_set_the_range(tmp_path, hole):
    def make(level):
        values = around(level, 5, np.float32)
        values[0, 0] = hole
        return tiff(values)

    found = decoded(tmp_path, named(files(make, (100, 200)), "tif"))
    assert 50 < found.decoder.value_range[0] < found.decoder.value_range[1] < 250
    assert (found.images[:, 0, 0, 0] == 0).all()
    assert "24 images have no-data or non-finite pixels" in " ".join(found.notes)


def test_a_value_that_stands_alone_is_taken_for_no_measurement_and_named(tmp_path):
    def make(level):
        values = around(level, 300, np.float32)
        values[:2] = -9999
        return tiff(values)

    found = decoded(tmp_path, named(files(make, (1000, 2000)), "tif"))
    assert found.decoder.nodata == (-9999,)
    assert found.decoder.value_range[0] > -1000
    assert "-9999 is far from all other values" in " ".join(found.notes)
    assert (found.images[:, 0, :2] == 0).all()


def test_the_range_is_of_the_train_split_alone(tmp_path):
    content = files(lambda level: tiff(around(level, 10, np.uint16)), (1000, 2000), splits=("train", "val"))
    content |= files(lambda level: tiff(around(level, 10, np.uint16)), (30_000, 60_000), splits=("test",))
    found = decoded(tmp_path, named(content, "tif"))
    assert found.decoder.value_range[1] < 2100
    assert (found.images[found.splits == "test"] == 255).all()


def test_the_range_can_be_set_by_hand(tmp_path):
    content = named(files(lambda level: tiff(np.full((SIDE, SIDE), level, np.int16)), (-100, 50)), "tif")
    found = decoded(tmp_path, content, value_range=[-100, 155])
    assert [np.unique(found.images[found.labels == label]).tolist() for label in (0, 1)] == [[0], [150]]


def test_deep_color_keeps_its_low_bytes(tmp_path):
    values = GENERATOR.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint16)
    values[0, 0], values[0, 1] = 0, 255
    found = decoded(tmp_path, named(files(lambda level: png(values, 2), (0, 0)), "png"))
    assert np.array_equal(found.images[0], values.astype(np.uint8).transpose(2, 0, 1))


def test_eight_bits_among_sixteen_are_refused_with_an_example_of_each(tmp_path):
    content = named(files(lambda level: encoded(around(level, 12, np.uint16, 0, 4095)), (990, 820)), "png")
    content["train/a/0.png"] = encoded(np.zeros((SIDE, SIDE), np.uint8))
    with pytest.raises(DataError, match=r"train/a/0\.png is of 8, test/a/0\.png of more.*preprocess\.value_range"):
        decoded(tmp_path, content)


def test_eight_bits_among_others_are_kept_where_the_range_of_the_others_is_set(tmp_path):
    full = np.linspace(0, 4095, SIDE * SIDE).round().astype(np.uint16).reshape(SIDE, SIDE)
    content = named(files(lambda level: encoded(full), (0, 0)), "png")
    content["train/a/0.png"] = encoded(np.full((SIDE, SIDE), 77, np.uint8))
    found = decoded(tmp_path, content, value_range=[0, 4095])
    assert (found.images[list(found.names).index("train/a/0.png")] == 77).all()
    assert np.array_equal(found.images[0, 0], levels(full, 0, 4095))
    assert "23 of 24 images have more than 8 bits a value" in found.notes[0]
    assert found.notes[0].endswith("0 is shown as black, 4,095 as white, and their values are 0 to 4,095")


def test_eight_bits_among_values_far_below_white_are_refused(tmp_path):
    content = named(files(lambda level: tiff(around(level, 500, np.uint16, 0, 10_000)), (3000, 7000)), "tif")
    content["train/a/0.tif"] = encoded(np.zeros((SIDE, SIDE), np.uint8))
    with pytest.raises(DataError, match="images of 8 bits and of more are mixed"):
        decoded(tmp_path, content)


def test_eight_bits_among_sixteen_that_use_all_of_them_mean_the_same(tmp_path):
    full = np.linspace(0, 65535, SIDE * SIDE).round().astype(np.uint16).reshape(SIDE, SIDE)
    content = named(files(lambda level: encoded(full), (0, 0)), "png")
    content["train/a/0.png"] = encoded(np.full((SIDE, SIDE), 77, np.uint8))
    found = decoded(tmp_path, content)
    assert found.decoder.value_range == FULL
    assert (found.images[list(found.names).index("train/a/0.png")] == 77).all()
    assert np.array_equal(found.images[0, 0], np.rint(full / 257))


def test_a_broken_file_among_deep_ones_is_broken(tmp_path):
    content = named(files(lambda level: encoded(around(level, 12, np.uint16)), (990, 820)), "png")
    content["train/a/0.png"] = content["train/a/0.png"][:-60]
    assert list(decoded(tmp_path, content).broken) == ["train/a/0.png"]


def test_a_line_says_what_is_black_and_what_is_white(tmp_path):
    values = np.linspace(780, 1060, SIDE * SIDE).round().astype(np.uint16).reshape(SIDE, SIDE)
    found = decoded(tmp_path, named(files(lambda level: encoded(values), (0, 0)), "png"))
    assert found.notes == (
        "the images have more than 8 bits a value: 780 is shown as black, 1,060 as white; "
        "preprocess.value_range sets others",
    )


def test_eight_bits_have_no_range_and_no_line(tmp_path):
    content = named(files(lambda level: encoded(around(level, 9, np.uint8, 0, 255)), (99, 150)), "png")
    found = decoded(tmp_path, content)
    assert found.decoder.value_range is None
    assert found.notes == ()


def sampled(values, low=None, high=None):
    values = np.asarray(values, dtype=np.float64)
    return Sampled(values, values.min() if low is None else low, values.max() if high is None else high, 0)


def test_a_few_values_far_outside_do_not_take_the_levels_of_the_rest():
    (low, high), nodata = choose_range([sampled(np.linspace(100, 200, 5000), high=60_000)])
    assert (low, high) == pytest.approx((100, 200), abs=1)
    assert nodata == ()


def test_values_a_little_outside_are_kept():
    (low, high), _ = choose_range([sampled(np.linspace(100, 200, 5000), low=80, high=220)])
    assert (low, high) == (80, 220)


def test_two_levels_are_a_picture_and_no_missing_measurement():
    assert choose_range([sampled([0.0] * 500 + [4000.0] * 500)]) == ((0, 4000), ())


def test_no_contrast_gives_a_range_that_can_be_divided_by():
    assert choose_range([sampled([7.0] * 9)]) == ((7, 8), ())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=50),
    st.sampled_from([np.int32, np.float64]),
)
def test_a_brighter_value_is_never_shown_darker(values, dtype):
    ordered = np.sort(np.array(values)).astype(dtype)
    limits, nodata = choose_range([sampled(ordered)])
    shown = to_bytes(ordered, limits, nodata)
    measured = ~np.isin(ordered, nodata)
    assert (np.diff(shown[measured].astype(int)) >= 0).all()
    assert limits[0] < limits[1]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 60_000), st.integers(1, 5535))
def test_a_picture_is_decoded_alike_alone_and_in_its_dataset(low, span):
    values = (low + GENERATOR.integers(0, span + 1, (8, 8))).astype(np.uint16)
    decoder = Decoder(1, (8, 8), value_range=(low, low + span))
    again = Decoder.parse(decoder.as_json(), (1, 8, 8))
    assert again == decoder
    exact = np.floor((values.astype(float) - low) * 255 / span + 0.5)
    assert np.abs(again(encoded(values))[0] - exact).max() <= 1
