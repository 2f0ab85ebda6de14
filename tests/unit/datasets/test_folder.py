"""A person's own images: which folder means which class and split, and pixels that stay with their labels."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.unit.datasets.folders import FOLDER, decoded, quiet

from darkroom.config.settings import Dataset, Preprocess
from darkroom.datasets import folder, steps
from darkroom.errors import DataError


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def gray(level, height=4, width=4):
    return png(np.full((height, width), level))


def color(level, height=4, width=4):
    return png(np.full((height, width, 3), level))


def test_pixels_labels_and_names_are_those_of_the_files(tmp_path):
    generator = np.random.default_rng(0)
    pixels = {
        f"{kind}/{number}.png": generator.integers(0, 256, (5, 7), dtype=np.uint8)
        for kind in ("cat", "dog")
        for number in range(3)
    }
    found = decoded(tmp_path, {name: png(image) for name, image in pixels.items()})
    assert found.classes == ("cat", "dog")
    assert found.images.dtype == np.uint8
    assert found.images.shape == (6, 1, 5, 7)
    assert sorted(found.names) == sorted(pixels)
    for image, label, name in zip(found.images, found.labels, found.names, strict=True):
        assert np.array_equal(image[0], pixels[name])
        assert found.classes[label] == name.split("/")[0]
    assert found.broken == {}


def test_the_original_size_is_kept_as_the_image_is_shown(tmp_path):
    lying = Image.Exif()
    lying[0x0112] = 6
    stream = io.BytesIO()
    Image.new("L", (30, 20)).save(stream, "JPEG", exif=lying)
    files = {
        "a/1.jpg": stream.getvalue(),
        "a/2.png": gray(0, 9, 5),
        "b/1.png": b"\x89PNG\r\n\x1a\n",
        "b/2.png": gray(1),
    }
    assert decoded(tmp_path, files).original_sizes.tolist() == [[30, 20], [9, 5], [4, 4]]


def test_splits_of_the_folders_are_kept(tmp_path):
    files = {f"{split}/{kind}/1.png": gray(0) for split in ("train", "valid", "test") for kind in ("cat", "dog")}
    found = decoded(tmp_path, files)
    assert dict(zip(found.names, found.splits.tolist(), strict=True)) == {
        name: {"valid": "val"}.get(name.split("/")[0], name.split("/")[0]) for name in files
    }


def test_images_of_one_size_keep_it(tmp_path):
    found = decoded(tmp_path, {"a/1.png": color(1, 9, 5), "b/1.png": color(2, 9, 5)})
    assert found.images.shape == (2, 3, 9, 5)
    assert found.sizes == {"5x9": 2}


def test_images_of_different_sizes_become_64_by_64(tmp_path):
    found = decoded(tmp_path, {"a/1.png": gray(1, 9, 5), "a/2.png": gray(1, 9, 5), "b/1.png": gray(2, 5, 9)})
    assert found.images.shape == (3, 1, 64, 64)
    assert found.sizes == {"5x9": 2, "9x5": 1}


def test_sizes_are_counted_the_most_common_first_then_the_first_seen(tmp_path):
    shapes = {"a/1": (2, 9), "a/2": (8, 1), "a/3": (3, 3), "b/1": (8, 1), "b/2": (2, 9), "b/3": (1, 8)}
    found = decoded(tmp_path, {f"{name}.png": gray(1, *shape) for name, shape in shapes.items()})
    assert list(found.sizes.items()) == [("9x2", 2), ("1x8", 2), ("3x3", 1), ("8x1", 1)]


@pytest.mark.parametrize(("side", "expected"), [(512, 512), (513, 64)])
def test_a_common_size_is_kept_up_to_512(tmp_path, side, expected):
    found = decoded(tmp_path, {"a/1.png": gray(1, side, side), "b/1.png": gray(2, side, side)})
    assert found.images.shape == (2, 1, expected, expected)


def test_the_size_that_is_asked_for_is_height_then_width(tmp_path):
    files = {"a/1.png": gray(1, 30, 10), "b/1.png": gray(2, 20, 20)}
    assert decoded(tmp_path, files, image_size=[6, 9]).images.shape == (2, 1, 6, 9)


def test_a_photo_on_its_side_counts_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.new("RGB", (5, 9)).save(stream, "JPEG", exif=exif)
    found = decoded(tmp_path, {"a/1.jpg": stream.getvalue(), "b/1.png": color(2, 5, 9)})
    assert found.images.shape == (2, 3, 5, 9)


def test_mixed_gray_and_color_is_refused_with_an_example_of_each(tmp_path):
    files = {"a/1.png": gray(1), "a/2.png": gray(1), "b/1.png": color(2)}
    match = r"2 as a/1\.png are gray, 1 as b/1\.png are in color.*set preprocess\.channels to 1 or 3"
    with pytest.raises(DataError, match=match):
        decoded(tmp_path, files)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_channels_that_are_asked_for_mend_a_mixture(tmp_path, channels):
    found = decoded(tmp_path, {"a/1.png": gray(10), "b/1.png": color(200)}, channels=channels)
    assert found.images.shape == (2, channels, 4, 4)
    assert [np.unique(image).tolist() for image in found.images] == [[10], [200]]


TRUNCATED = png(np.random.default_rng(0).integers(0, 256, (4, 4)))[:-30]


@pytest.mark.parametrize(
    ("content", "reason"), [(b"text", "not an image"), (b"", "an empty file"), (TRUNCATED, "trunc")]
)
def test_a_broken_image_is_left_out_and_listed_with_its_reason(tmp_path, content, reason):
    files = {"a/1.png": gray(1), "a/2.png": content, "b/1.png": gray(2)}
    found = decoded(tmp_path, files)
    assert list(found.broken) == ["a/2.png"]
    assert reason in found.broken["a/2.png"]
    assert found.names == ("a/1.png", "b/1.png")
    assert found.sizes == {"4x4": 2}


def test_splits_stay_with_their_images_when_one_is_broken(tmp_path):
    files = {f"{split}/{kind}/1.png": gray(1) for split in ("test", "train", "val") for kind in ("cat", "dog")}
    found = decoded(tmp_path, files | {"test/cat/1.png": b"text"})
    assert [name.split("/")[0] for name in found.names] == found.splits.tolist()
    assert sorted(found.splits.tolist()) == ["test", "train", "train", "val", "val"]


@pytest.mark.parametrize("lost", ["test", "val", "train"])
def test_a_split_of_which_no_image_can_be_decoded_is_refused(tmp_path, lost):
    files = {f"{split}/{kind}/1.png": gray(1) for split in ("test", "train", "val") for kind in ("cat", "dog")}
    match = rf"^none of 2 images of {lost} can be decoded, such as {lost}/cat/1\.png \(not an image.*\); fix or remove"
    with pytest.raises(DataError, match=match):
        decoded(tmp_path, {name: b"text" if name.startswith(lost) else content for name, content in files.items()})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=40), st.integers(1, 7))
def test_labels_stay_with_their_pixels_whichever_images_are_broken(tmp_path_factory, broken, chunk):
    # Each image has a gray level of its own, from which its class follows.
    files = {
        f"{'ab'[level % 2]}/{level:02}.png": TRUNCATED if damaged else gray(level)
        for level, damaged in enumerate(broken)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "SHARD_IMAGES", chunk)
        patch.setattr(steps, "CHUNK", chunk)
        found = decoded(tmp_path_factory.mktemp("folder"), files)
    whole = [level for level, damaged in enumerate(broken) if not damaged]
    assert len(found.images) == len(found.labels) == len(found.splits) == len(found.names) == len(whole)
    assert sorted(found.images[:, 0, 0, 0].tolist()) == whole
    for image, label, name, digest in zip(found.images, found.labels, found.names, found.digests, strict=True):
        assert (image == int(name[2:4])).all()
        assert label == int(name[2:4]) % 2
        assert digest.tobytes() == hashlib.blake2b(files[name], digest_size=16).digest()
    assert len(found.broken) == sum(broken)


def test_worker_processes_give_what_one_process_gives(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    files = {f"{'ab'[n % 2]}/{n:02}.png": png(generator.integers(0, 256, (8, 8, 3))) for n in range(30)}
    files |= {"b/05.png": b"text", "b/11.png": TRUNCATED}
    monkeypatch.setattr(steps, "SHARD_IMAGES", 7)
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    serial = decoded(tmp_path / "one", files, channels=3)
    monkeypatch.setattr(folder, "PARALLEL_FROM", 1)
    parallel = decoded(tmp_path / "many", files, channels=3)
    assert np.array_equal(parallel.images, serial.images)
    assert np.array_equal(parallel.labels, serial.labels)
    assert (parallel.names, parallel.sizes, parallel.broken) == (serial.names, serial.sizes, serial.broken)
    assert len(parallel.images) == 28


def test_progress_goes_up_to_the_number_of_images(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "SHARD_IMAGES", 2)
    seen = []
    files = {"a/1.png": gray(1), "a/2.png": gray(1), "b/1.png": gray(2)}
    decoded(tmp_path, files, report=lambda *news: seen.append(news))
    assert seen == [("read sizes", 2, 3), ("read sizes", 3, 3), ("decode", 2, 3), ("decode", 3, 3)]


def test_a_folder_that_was_not_packed_yet_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"images\.zip: missing or damaged; run `darkroom download` again"):
        FOLDER.decode(tmp_path, Preprocess(), tmp_path, quiet)


@pytest.mark.parametrize("parallel_from", [1, 1000], ids=["worker processes", "one process"])
def test_a_damaged_pack_is_not_taken_for_a_broken_image(tmp_path, monkeypatch, parallel_from):
    decoded(tmp_path, {"a/1.png": gray(1), "b/1.png": gray(2)})
    packed = tmp_path / "raw" / "images.zip"
    content = bytearray(packed.read_bytes())
    content[content.index(b"IDAT")] ^= 1
    packed.write_bytes(content)
    monkeypatch.setattr(folder, "PARALLEL_FROM", parallel_from)
    with pytest.raises(DataError, match=r"images\.zip: missing or damaged; run `darkroom download` again"):
        FOLDER.decode(tmp_path / "raw", Preprocess(), tmp_path, quiet)


def test_a_path_may_begin_with_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for kind in ("cat", "dog"):
        (tmp_path / "pets" / kind).mkdir(parents=True)
        (tmp_path / "pets" / kind / "1.png").write_bytes(gray(1))
    FOLDER.download(Dataset(name="folder", path="~/pets"), tmp_path / "raw", quiet)
    with zipfile.ZipFile(tmp_path / "raw" / "images.zip") as packed:
        assert packed.namelist() == ["cat/1.png", "dog/1.png"]
