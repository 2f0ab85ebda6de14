"""What servers keep: whole files, each picture once, and no more than there is room for."""

import multiprocessing
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.data.digests import content_digest
from darkroom.images.decoder import Decoder
from darkroom.inbox import store
from darkroom.inbox.store import FullInboxError, Record, keep, read_inbox

ROOM = {"max_images": 1000, "max_bytes": 10**7}


def noise(seed, shape=(1, 8, 8)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def record_of(pixels, label=None, when="2026-01-01T00:00:00+00:00"):
    digest = content_digest(pixels.tobytes()).hex()
    return Record(digest, "m", "1", "cat", 0.5, "named" if label else "undecided", when, label)


def put(directory, seed, label=None, **room):
    pixels = noise(seed)
    return keep(directory, pixels, record_of(pixels, label), **(ROOM | room))


@pytest.mark.parametrize("shape", [(1, 9, 7), (3, 9, 7)])
def test_a_picture_comes_back_as_it_was_with_its_record(tmp_path, shape):
    pixels = noise(0, shape)
    record = record_of(pixels, "dog ü \U0001f415")
    assert keep(tmp_path / "in", pixels, record, **ROOM)
    (found,), damaged = read_inbox(tmp_path / "in")
    assert found.record == record
    assert np.array_equal(Decoder.parse({}, shape)(found.content()), pixels)
    assert damaged == []


def test_the_same_picture_is_kept_once_and_what_a_person_says_of_it_counts(tmp_path):
    assert [put(tmp_path, 0), put(tmp_path, 0), put(tmp_path, 0, "dog"), put(tmp_path, 0)] == [True, False, True, False]
    (found,), _ = read_inbox(tmp_path)
    assert found.record.label == "dog"


def test_a_full_inbox_takes_no_other_picture_but_a_label_for_one_that_it_has(tmp_path):
    put(tmp_path, 0)
    with pytest.raises(FullInboxError, match=r"full, with 1 image of 1 and 0\.0 of 10\.0 MB"):
        put(tmp_path, 1, max_images=1)
    size = next(tmp_path.glob("*.png")).stat().st_size
    with pytest.raises(FullInboxError):
        put(tmp_path, 1, max_bytes=size + 10)
    assert put(tmp_path, 0, "dog", max_images=1)
    assert [each.record.label for each in read_inbox(tmp_path)[0]] == ["dog"]


def test_a_picture_that_somebody_removes_meanwhile_loses_no_other_one(tmp_path, monkeypatch):
    put(tmp_path, 0)
    real = os.scandir

    @contextmanager
    def slow(path):
        with real(path) as entries:
            found = list(entries)
        for entry in found:
            Path(entry).unlink()
        yield iter(found)

    monkeypatch.setattr(store.os, "scandir", slow)
    assert put(tmp_path, 1, max_images=1)
    monkeypatch.undo()
    assert [each.record.digest for each in read_inbox(tmp_path)[0]] == [record_of(noise(1)).digest]


def test_an_inbox_that_nothing_was_put_into_is_empty(tmp_path):
    assert read_inbox(tmp_path / "nowhere") == ([], [])


def test_files_that_are_damaged_or_of_somebody_else_are_named(tmp_path):
    put(tmp_path, 0)
    put(tmp_path, 1)
    own = sorted(tmp_path.glob("*.png"))
    own[0].write_bytes(own[0].read_bytes()[:-20])
    Image.new("L", (4, 4)).save(tmp_path / "foreign.png")
    (tmp_path / "text.png").write_text("x")
    (tmp_path / ".darkroom.1.partial").write_text("half")
    found, damaged = read_inbox(tmp_path)
    assert [each.file for each in found] == [own[1]]
    assert set(damaged) == {own[0], tmp_path / "foreign.png", tmp_path / "text.png"}


def put_many(directory, seeds, full):
    for seed in seeds:
        try:
            put(directory, seed, max_images=30)
        except FullInboxError:
            full.value += 1
    os._exit(0)


def at_once(context, place, work):
    workers = [context.Process(target=put_many, args=(place / "a", *each)) for each in work]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def test_processes_that_write_at_once_lose_and_double_nothing_and_stay_within_the_bound(tmp_path):
    context = multiprocessing.get_context("fork")
    counts = [context.Value("i", 0) for _ in range(3)]
    # Each has pictures of its own, and some that the others have too.
    sets = [[*range(8), *range(100 * (number + 1), 100 * (number + 1) + 4)] for number in range(3)]
    at_once(context, tmp_path, zip(sets, counts, strict=True))
    found, damaged = read_inbox(tmp_path / "a")
    wanted = {record_of(noise(seed)).digest for seeds in sets for seed in seeds}
    assert {each.record.digest for each in found} == wanted
    assert damaged == []
    assert [count.value for count in counts] == [0, 0, 0]
    others = [range(start, start + 20) for start in (1000, 2000, 3000)]
    at_once(context, tmp_path, zip(others, counts, strict=True))
    assert len(read_inbox(tmp_path / "a")[0]) == 30
    assert sum(count.value for count in counts) == 60 - (30 - len(wanted))
