"""Preprocessing that is stopped and started again: nothing is done twice, and the result is that of one go."""

import io
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.unit.datasets.folders import FOLDER, as_directory, decoded, quiet

from darkroom.config.settings import Dataset, Preprocess
from darkroom.datasets import decoding, steps
from darkroom.datasets.workers import LostShardError, ThisProcess
from darkroom.errors import DataError
from darkroom.utils.scratch import kept_directory

SHARD = 4


class KilledError(BaseException):
    """As a kill is: no code of the stage sees it."""


def image(seed, dtype=np.uint8):
    stream = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (6, 5), dtype=dtype)
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def files(count=22, dtype=np.uint8):
    """Of which some cannot be decoded, and one is no image."""
    made = {f"{'ab'[number % 2]}/{number:02}.png": image(number, dtype) for number in range(count)}
    return made | {name: made[name][:-30] for name in ("a/02.png", "b/09.png")} | {"b/13.png": b"text"}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A packed folder, and what becomes of it in one go."""
    place = tmp_path_factory.mktemp("packed")
    return place / "raw", decoded(place, files())


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """The same of 16 bits, whose values are sampled before."""
    place = tmp_path_factory.mktemp("deep")
    return place / "raw", decoded(place, files(dtype=np.uint16))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(steps, "SHARD_IMAGES", SHARD)
    monkeypatch.setattr(steps, "CHUNK", 3)


def decode(raw, kept, stop_after=None, **preprocess):
    """Decode until so many shards are finished; returns what has been done, by shards, and what was found."""
    done = []

    def report(what, count, total):
        done.append((what, count))
        if len(done) == stop_after:
            raise KilledError

    try:
        found = FOLDER.decode(raw, Preprocess(**preprocess), kept.parent, report, kept)
    except KilledError:
        found = None
    return done, found


def assert_same(found, expected):
    assert np.array_equal(found.images, expected.images)
    assert np.array_equal(found.digests, expected.digests)
    assert np.array_equal(found.labels, expected.labels)
    assert np.array_equal(found.original_sizes, expected.original_sizes)
    assert (found.names, found.broken, found.decoder) == (expected.names, expected.broken, expected.decoder)
    assert (found.sizes, found.notes) == (expected.sizes, expected.notes)


@settings(max_examples=5)
@given(st.lists(st.integers(1, 14), max_size=4), st.integers(0, 60))
def test_whenever_it_is_killed_the_rest_is_done_and_the_result_is_the_same(tmp_path_factory, deep, stops, lost):
    raw, expected = deep
    kept = tmp_path_factory.mktemp("kept")
    for stop in stops:
        decode(raw, kept, stop)
        # A kill may leave half of a line. The last line has less than so many bytes.
        for journal in kept.glob("*.jsonl"):
            content = journal.read_bytes()
            last = len(content) - content.rstrip(b"\n").rfind(b"\n") - 1
            journal.write_bytes(content[: len(content) - min(lost, last)])
    assert_same(decode(raw, kept)[1], expected)

    again, found = decode(raw, kept)
    assert_same(found, expected)
    # Each step says what there is of it, and nothing is done.
    steps_of = [what for what, _ in again]
    assert steps_of == list(dict.fromkeys(steps_of))
    assert again[-1] == ("decode", 22)


def test_what_is_finished_is_not_done_again(tmp_path, packed, capsys):
    raw, expected = packed
    (tmp_path / "one").mkdir()
    (tmp_path / "kept").mkdir()
    whole, _ = decode(raw, tmp_path / "one")
    first, _ = decode(raw, tmp_path / "kept", len(whole) - 2)
    second, found = decode(raw, tmp_path / "kept")

    assert_same(found, expected)
    assert first == whole[:-2]
    # Each step says first what there is of it.
    assert second[-3:] == whole[-3:]
    assert len(second) == len({what for what, _ in whole}) + 2
    assert "decode: resuming after 16 of 22 images\n" in capsys.readouterr().err


@pytest.mark.parametrize("moved", [0, 2])
def test_a_kill_while_images_are_moved_together_decodes_them_again(tmp_path, packed, monkeypatch, moved):
    raw, expected = packed
    released = []

    def killed(images):
        released.append(images)
        if len(released) > moved:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(steps, "release", killed)
        assert decode(raw, tmp_path)[1] is None
    done, found = decode(raw, tmp_path)

    assert_same(found, expected)
    assert done[-6:] == [("decode", count) for count in (4, 8, 12, 16, 20, 22)]


def test_other_settings_decode_again_but_read_no_sizes(tmp_path, packed):
    raw, _ = packed
    change = {"image_size": [5, 6]}  # as many bytes
    (tmp_path / "kept").mkdir()
    (tmp_path / "new").mkdir()
    decode(raw, tmp_path / "kept")
    done, found = decode(raw, tmp_path / "kept", **change)
    _, expected = decode(raw, tmp_path / "new", **change)

    assert_same(found, expected)
    assert [count for what, count in done if what == "read sizes"] == [22]
    assert [count for what, count in done if what == "decode"] == [4, 8, 12, 16, 20, 22]
    # The shards of the first settings were removed.
    done, _ = decode(raw, tmp_path / "kept")
    assert [count for what, count in done if what == "decode"] == [4, 8, 12, 16, 20, 22]


def test_another_image_or_another_decoder_starts_from_the_beginning(tmp_path, packed, monkeypatch):
    raw, _ = packed
    kept = tmp_path / "kept"
    kept.mkdir()
    decode(raw, kept)
    changed = as_directory(tmp_path / "changed", files() | {"a/20.png": image(77)})
    FOLDER.download(Dataset(name="folder", path=str(changed)), tmp_path / "raw", quiet)
    done, _ = decode(tmp_path / "raw", kept)
    assert done[0] == ("read sizes", 4)
    assert ("decode", 4) in done

    monkeypatch.setattr(steps, "versions", lambda: decoding.versions() | {"Pillow": "0"})
    done, _ = decode(tmp_path / "raw", kept)
    assert done[0] == ("read sizes", 4)
    assert ("decode", 4) in done


def test_pixels_that_are_gone_are_decoded_again(tmp_path, packed):
    raw, expected = packed
    decode(raw, tmp_path)
    (tmp_path / "images.bin").unlink()
    _, found = decode(raw, tmp_path)
    assert_same(found, expected)


def test_an_image_that_kills_its_worker_is_named_with_its_shard_and_the_others_are_kept(tmp_path, packed, monkeypatch):
    raw, expected = packed

    def lose_the_third(self, task, shards):
        for shard, arguments in shards.items():
            if shard != 2:
                yield shard, task(*arguments)
        raise LostShardError(2)

    with monkeypatch.context() as patch:
        patch.setattr(ThisProcess, "run", lose_the_third)
        with pytest.raises(DataError) as caught:
            decode(raw, tmp_path)
    assert re.fullmatch(
        r"read sizes: a worker process was killed, perhaps because memory ran out \(without it [\d.]+ GiB is free\), "
        r"each of 3 times that one worked on the 4 images from a/16\.png to b/01\.png; .*which resumes",
        str(caught.value),
    )
    done, found = decode(raw, tmp_path)
    assert done[:2] == [("read sizes", 18), ("read sizes", 22)]
    assert_same(found, expected)


def test_a_journal_of_garbage_is_no_journal(tmp_path, packed):
    raw, expected = packed
    decode(raw, tmp_path)
    for journal in tmp_path.glob("*.jsonl"):
        first = journal.read_bytes().partition(b"\n")[0]
        journal.write_bytes(first + b"\n7\n" + bytes(20) + b"\n")
    done, found = decode(raw, tmp_path)
    assert_same(found, expected)
    assert ("decode", 4) in done
    assert all(json.loads(line) for line in (tmp_path / "sizes.jsonl").read_text().splitlines())


def work_until_killed(place):
    with kept_directory(place) as kept:
        (kept / "images.bin").write_bytes(b"1")
        raise KilledError


def test_only_one_process_works_in_a_kept_directory_which_ends_with_success(tmp_path):
    place = tmp_path / "a" / ".folder.partial"
    with kept_directory(place) as kept:
        with pytest.raises(DataError, match=r"\.folder\.partial: another process works in it"), kept_directory(place):
            pass
        (kept / "images.bin").write_bytes(b"1")
    assert not place.exists()

    with pytest.raises(KilledError):
        work_until_killed(place)
    with kept_directory(place) as kept:
        assert (kept / "images.bin").read_bytes() == b"1"

    with pytest.raises(KilledError), kept_directory(place):
        raise KilledError
    assert not place.exists()
