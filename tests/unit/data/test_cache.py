"""The preprocessed dataset on disk: what is written is read, and nothing else is taken for it."""

import errno
import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from darkroom.config import Config
from darkroom.config.settings import Dataset
from darkroom.data import cache, memmap
from darkroom.data.batches import read_split
from darkroom.data.cache import DatasetCard, read_attributes, read_digests, read_names, read_sizes
from darkroom.errors import CacheError
from darkroom.stages import download, preprocess
from darkroom.workspace import Workspace

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (12, 3, 5, 4), dtype=np.uint8)
LABELS = np.arange(12) % 2
ROWS = {"train": np.array([0, 1, 4, 5, 8, 9, 11]), "val": np.array([2, 3]), "test": np.array([6, 7, 10])}


def write(directory, **changed):
    directory.mkdir(parents=True, exist_ok=True)
    given = {"images": IMAGES, "labels": LABELS, "rows": ROWS, "classes": ["a", "b"], "names": [], "name": "pets"}
    given |= {"settings": {"preprocess": {"seed": 0}}} | changed
    return cache.write(directory, given.pop("images"), given.pop("labels"), given.pop("rows"), **given)


def test_every_split_is_read_as_it_was_written(tmp_path):
    card = write(tmp_path)
    for name, rows in ROWS.items():
        split = read_split(tmp_path, card, name)
        assert np.array_equal(split.images.numpy(), IMAGES[rows])
        assert np.array_equal(split.labels.numpy(), LABELS[rows])


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(3, 9), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))),
    st.integers(1, 500),
)
def test_images_of_any_shape_are_read_as_they_were_written(tmp_path_factory, images, chunk_bytes):
    directory = tmp_path_factory.mktemp("cache")
    labels = np.arange(len(images))
    rows = {"train": labels[2:], "val": labels[:1], "test": labels[1:2]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memmap, "CHUNK_BYTES", chunk_bytes)
        card = write(directory, images=images, labels=labels, rows=rows, classes=[str(label) for label in labels])
    for name, chosen in rows.items():
        split = read_split(directory, card, name)
        assert np.array_equal(split.images.numpy(), images[chosen])
        assert np.array_equal(split.labels.numpy(), chosen)


def test_the_card_is_read_as_it_was_written(tmp_path):
    card = write(tmp_path)
    assert DatasetCard.read(tmp_path) == card
    assert card.name == "pets"
    assert card.classes == ("a", "b")
    assert card.shape == (3, 5, 4)
    assert card.sizes == {"train": 7, "val": 2, "test": 3}


def test_the_files_are_plain_safetensors_with_aligned_data(tmp_path):
    card = write(tmp_path)
    found = safetensors.numpy.load_file(tmp_path / "train.safetensors")
    assert set(found) == {"images", "labels"}
    assert np.array_equal(found["images"], IMAGES[ROWS["train"]])
    assert np.array_equal(found["labels"], LABELS[ROWS["train"]])
    content = (tmp_path / "train.safetensors").read_bytes()
    header = int.from_bytes(content[:8], "little")
    assert (8 + header) % 64 == 0
    assert json.loads(content[8 : 8 + header])["__metadata__"]["digest"] == card.shards["train"][0].digest


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_std_are_those_of_the_train_split(tmp_path, channels):
    images = IMAGES[:, :channels]
    card = write(tmp_path, images=images)
    pixels = images[ROWS["train"]] / 255
    np.testing.assert_allclose(card.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(card.std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)


def test_the_std_of_a_channel_without_contrast_is_one(tmp_path):
    images = IMAGES.copy()
    images[:, 1] = 51
    card = write(tmp_path, images=images)
    assert card.mean[1] == pytest.approx(0.2)
    assert card.std[1] == 1.0
    assert card.std[0] == pytest.approx((IMAGES[ROWS["train"], 0] / 255).std())


# --- fingerprint -------------------------------------------------------------------------------------


def one_pixel_brighter():
    images = IMAGES.copy()
    images[10, 2, 4, 3] ^= 1  # an image of the test split, so that mean and std stay the same
    return images


@pytest.mark.parametrize(
    "changed",
    [
        {"images": one_pixel_brighter()},
        {"labels": np.where(np.arange(12) == 10, 1, LABELS)},
        {"classes": ["a", "c"]},
        {"settings": {"preprocess": {"seed": 1}}},
        {"name": "animals"},
        {"rows": ROWS | {"val": ROWS["val"][::-1]}},
        {"rows": ROWS | {"val": ROWS["test"], "test": ROWS["val"]}},
        {"images": IMAGES.reshape(12, 3, 4, 5)},
    ],
    ids=["pixel", "label", "classes", "settings", "name", "order", "splits", "shape"],
)
def test_the_fingerprint_changes_with_what_it_stands_for(tmp_path, changed):
    assert write(tmp_path / "one").fingerprint != write(tmp_path / "other", **changed).fingerprint


def test_the_fingerprint_does_not_change_otherwise(tmp_path, monkeypatch):
    first = write(tmp_path / "one")
    monkeypatch.setattr(memmap, "CHUNK_BYTES", 100)
    second = write(tmp_path / "other", images=IMAGES.copy(), settings={"preprocess": {"seed": 0}})
    assert second == first
    for name in ("train.safetensors", "val.safetensors", "test.safetensors", "dataset.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


# --- names -------------------------------------------------------------------------------------------


def test_the_names_of_each_split_are_read_as_they_were_written(tmp_path):
    names = [f'folder, "quoted"\r\n/{number} ä.png' for number in range(12)]
    write(tmp_path, names=names)
    for split, rows in ROWS.items():
        assert read_names(tmp_path, split) == [names[row] for row in rows]


def test_images_without_names_have_none(tmp_path):
    write(tmp_path)
    assert read_names(tmp_path, "test") == []


def test_the_columns_of_a_table_are_read_as_they_were_written(tmp_path):
    cameras = np.array([f"camera {row}" for row in range(12)], dtype=object)
    write(tmp_path, attributes={"camera": cameras, "class": cameras[::-1]})
    assert read_attributes(tmp_path, "test") == {
        "camera": ["camera 6", "camera 7", "camera 10"],
        "class (table)": ["camera 5", "camera 4", "camera 1"],
    }


def test_images_without_a_table_have_no_columns_and_no_sizes(tmp_path):
    write(tmp_path)
    assert read_attributes(tmp_path, "val") == {}
    assert read_sizes(tmp_path, "val") is None


def test_the_sizes_of_the_files_are_no_columns_of_the_table(tmp_path):
    write(tmp_path, original_sizes=SIZES, attributes={"camera": LABELS})
    assert read_attributes(tmp_path, "test") == {"camera": ["0", "1", "0"]}


def test_the_digests_are_those_of_the_files_or_else_of_the_pixels(tmp_path):
    files = np.random.default_rng(1).integers(0, 256, (12, 16), dtype=np.uint8)
    write(tmp_path / "files", digests=files)
    write(tmp_path / "pixels")
    for split, rows in ROWS.items():
        assert np.array_equal(read_digests(tmp_path / "files", split), files[rows])
        pixels = [hashlib.blake2b(IMAGES[row].tobytes(), digest_size=16).digest() for row in rows]
        assert read_digests(tmp_path / "pixels", split).tobytes() == b"".join(pixels)


def test_digests_do_not_change_the_fingerprint(tmp_path):
    assert write(tmp_path / "files", digests=np.zeros((12, 16), np.uint8)) == write(tmp_path / "pixels")


def test_a_cache_with_names_alone_has_no_digests(tmp_path):
    write(tmp_path)
    (tmp_path / "files.csv").write_text("split,row,file\ntrain,0,b.png\ntest,0,a.png\ntest,1,c.png\ntest,2,d.png\n")
    assert (read_names(tmp_path, "test"), read_digests(tmp_path, "test")) == (["a.png", "c.png", "d.png"], None)

    (tmp_path / "files.csv").unlink()
    assert (read_names(tmp_path, "test"), read_digests(tmp_path, "test")) == ([], None)


# --- sizes -------------------------------------------------------------------------------------------

SIZES = np.arange(100, 124).reshape(12, 2)


def test_the_original_sizes_of_each_split_are_read_as_they_were_written(tmp_path):
    write(tmp_path, original_sizes=SIZES)
    for split, rows in ROWS.items():
        assert np.array_equal(read_sizes(tmp_path, split), SIZES[rows])


def test_original_sizes_do_not_change_the_fingerprint(tmp_path):
    assert write(tmp_path / "known", original_sizes=SIZES) == write(tmp_path / "unknown")


def test_a_table_may_have_columns_called_height_and_width(tmp_path):
    table = {"width": np.array(["1 m"] * 12, object), "height": np.array(["2 m"] * 12, object)}
    write(tmp_path / "known", original_sizes=SIZES, attributes=table)
    write(tmp_path / "unknown", attributes=table)
    assert np.array_equal(read_sizes(tmp_path / "known", "val"), SIZES[ROWS["val"]])
    assert read_sizes(tmp_path / "unknown", "val") is None
    header = (tmp_path / "known" / "files.csv").read_text().splitlines()[0]
    assert header == "split,row,file,class,digest,height,width,width (table),height (table)"


@pytest.mark.parametrize("further", ["", ",width,height", ",age,height,width"])
def test_a_cache_written_before_sizes_were_has_none(tmp_path, further):
    write(tmp_path)
    lines = (tmp_path / "files.csv").read_text().splitlines()
    tail = ",x" * further.count(",")
    (tmp_path / "files.csv").write_text("\n".join([lines[0] + further, *(line + tail for line in lines[1:])]))
    assert read_sizes(tmp_path, "test") is None

    (tmp_path / "files.csv").unlink()
    assert read_sizes(tmp_path, "test") is None


def test_a_size_that_is_no_number_is_refused(tmp_path):
    write(tmp_path, original_sizes=SIZES)
    path = tmp_path / "files.csv"
    path.write_text(path.read_text().replace(",112,", ",tall,"))
    with pytest.raises(CacheError, match=r"files\.csv: damaged, or of .*'tall'.*; run `darkroom preprocess` again$"):
        read_sizes(tmp_path, "test")


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "null\n",
        lambda text: text.replace("split", "part", 1),
        lambda text: text.replace("\ntest,", "\nval,", 1),
        lambda text: text[: len(text) // 2],
    ],
)
def test_a_list_of_images_that_was_changed_is_refused(tmp_path, damage):
    write(tmp_path, names=[f"{number}.png" for number in range(12)])
    path = tmp_path / "files.csv"
    path.write_text(damage(path.read_text()))

    with pytest.raises(CacheError, match=r"^.*files\.csv: damaged, or of .*; run `darkroom preprocess` again$"):
        read_digests(tmp_path, "test")


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_that_are_no_classes_are_refused(tmp_path, label):
    card = write(tmp_path)
    path = tmp_path / "val.safetensors"
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start : start + 8] = label.to_bytes(8, "little", signed=True)
    path.write_bytes(content)
    os.utime(path, (0, 0))  # as if it had not been touched

    with pytest.raises(CacheError, match=r"damaged \(labels of val that are no classes\); run `darkroom preprocess`"):
        read_split(tmp_path, card, "val")


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_split_is_refused(tmp_path, kept):
    card = write(tmp_path)
    path = tmp_path / "test.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CacheError, match=r"test\.safetensors: missing or damaged .*; run `darkroom preprocess` again"):
        read_split(tmp_path, card, "test")


def test_a_missing_split_is_refused(tmp_path):
    card = write(tmp_path)
    (tmp_path / "val.safetensors").unlink()
    with pytest.raises(CacheError, match=r"val\.safetensors: missing or damaged .*; run `darkroom preprocess` again"):
        read_split(tmp_path, card, "val")


def test_a_split_without_images_is_refused(tmp_path):
    card = write(tmp_path)
    safetensors.numpy.save_file({"labels": LABELS}, tmp_path / "val.safetensors")
    with pytest.raises(CacheError, match=r"val\.safetensors: missing or damaged .*images"):
        read_split(tmp_path, card, "val")


@pytest.mark.parametrize("metadata", [{"format_version": "0"}, {"digest": "x"}, None])
def test_a_split_in_another_format_version_is_refused(tmp_path, metadata):
    card = write(tmp_path)
    tensors = {"images": IMAGES, "labels": LABELS}
    safetensors.numpy.save_file(tensors, tmp_path / "test.safetensors", metadata)
    with pytest.raises(CacheError, match=r"test\.safetensors: not in format version 2; run `darkroom preprocess`"):
        read_split(tmp_path, card, "test")


def test_a_split_of_another_dataset_is_refused(tmp_path):
    card = write(tmp_path / "one")
    write(tmp_path / "other", images=one_pixel_brighter())
    shutil.copy(tmp_path / "other" / "test.safetensors", tmp_path / "one" / "test.safetensors")
    with pytest.raises(CacheError, match=r"test\.safetensors: does not belong to .*dataset\.json; run `darkroom"):
        read_split(tmp_path / "one", card, "test")


def test_a_split_that_was_changed_in_place_is_refused(tmp_path):
    card = write(tmp_path)
    path = tmp_path / "train.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError, match=r"train\.safetensors: changed since it was written .*; run `darkroom preproc"):
        read_split(tmp_path, card, "train")


def test_a_split_that_was_copied_is_read(tmp_path):
    card = write(tmp_path)
    path = tmp_path / "train.safetensors"
    path.write_bytes(path.read_bytes())
    assert np.array_equal(read_split(tmp_path, card, "train").labels.numpy(), LABELS[ROWS["train"]])


def test_a_split_under_the_name_of_another_is_refused(tmp_path):
    card = write(tmp_path)
    shutil.copy(tmp_path / "val.safetensors", tmp_path / "test.safetensors")
    with pytest.raises(CacheError, match=r"test\.safetensors: does not belong to"):
        read_split(tmp_path, card, "test")


def test_a_missing_card_is_refused(tmp_path):
    with pytest.raises(CacheError, match=r"dataset\.json: not found; run `darkroom preprocess` first"):
        DatasetCard.read(tmp_path)


def test_a_damaged_card_is_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(CacheError, match=r"dataset\.json: damaged .*; run `darkroom preprocess` again"):
        DatasetCard.read(tmp_path)


@pytest.mark.parametrize("change", [lambda card: card.pop("mean"), lambda card: card.update(extra=1)])
def test_a_card_with_other_fields_is_refused(tmp_path, change):
    write(tmp_path)
    path = tmp_path / "dataset.json"
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))
    with pytest.raises(CacheError, match=r"dataset\.json: damaged .*(mean|extra).*; run `darkroom preprocess` again"):
        DatasetCard.read(tmp_path)


def test_a_card_in_another_format_version_is_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 3'))
    with pytest.raises(CacheError, match=r"dataset\.json: format version 3, this release reads version 2"):
        DatasetCard.read(tmp_path)


def test_a_directory_without_a_card_is_no_cache(tmp_path, monkeypatch):
    def interrupted(path, value):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path)
    with pytest.raises(CacheError, match="not found"):
        DatasetCard.read(tmp_path)


# --- a full disk -------------------------------------------------------------------------------------


def files(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def fill_the_disk(monkeypatch):
    def full(file, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("darkroom.data.memmap.os.posix_fallocate", full, raising=False)


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    config, workspace = Config(dataset=Dataset(name="digits")), Workspace(tmp_path)
    download.run(config, workspace)
    before = files(tmp_path)
    fill_the_disk(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        preprocess.run(config, workspace)
    assert files(tmp_path) == before
    assert list((tmp_path / "data" / "processed").iterdir()) == []


def test_a_full_disk_leaves_the_cache_that_was_there(tmp_path, monkeypatch):
    config, workspace = Config(dataset=Dataset(name="digits")), Workspace(tmp_path)
    download.run(config, workspace)
    write(workspace.processed("digits"))
    before = files(tmp_path)
    fill_the_disk(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        preprocess.run(config, workspace)
    assert files(tmp_path) == before
    assert [path.name for path in (tmp_path / "data" / "processed").iterdir()] == ["digits"]
