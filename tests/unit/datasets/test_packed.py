"""Reading the pack: what zipfile wrote is found, byte for byte, and damage is told."""

import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.datasets import packed
from darkroom.datasets.packed import read_index, read_members
from darkroom.errors import DataError

MEMBERS = {"cat/1.png": b"first", "ant/ä日 2.png": b"", "cat/0.png": bytes(range(256)) * 9}
DAMAGED = r"images\.zip: missing or damaged; run `darkroom download` again"


def write(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as opened:
                opened.write(content)
    return path


def read(path):
    names, records = read_index(path)
    return dict(zip(names, read_members(path, records), strict=True))


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text("aäß日/ .", min_size=1), st.binary(max_size=99), min_size=1))
def test_every_member_is_read_as_it_was_written(tmp_path_factory, members):
    assert read(write(tmp_path_factory.mktemp("pack") / "images.zip", members)) == members


def test_names_come_sorted_and_their_records_with_them(tmp_path):
    path = write(tmp_path / "images.zip", MEMBERS)
    names, records = read_index(path)
    assert names == sorted(MEMBERS)
    assert list(read_members(path, records[1:])) == [MEMBERS[name] for name in names[1:]]


def test_an_archive_beyond_the_first_zip_format_is_read(tmp_path, monkeypatch):
    # As if 300 bytes and 20 members were too many for it, which they are beyond 2 GiB and 65,535.
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 300)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 20)
    members = {f"a/{number:02}.png": bytes([number]) * number for number in range(40)}
    path = write(tmp_path / "images.zip", members)
    assert b"PK\6\6" in path.read_bytes()
    assert read(path) == members


def test_just_as_many_members_as_the_first_zip_format_holds_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "MANY", len(MEMBERS))
    assert read(write(tmp_path / "images.zip", MEMBERS)) == MEMBERS


@pytest.mark.parametrize("kept", [0, 10, -1, -23])
def test_a_truncated_archive_is_damaged(tmp_path, kept):
    path = write(tmp_path / "images.zip", MEMBERS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=DAMAGED):
        read_index(path)


@pytest.mark.parametrize("name", ["images.zip", "missing/images.zip"])
def test_a_missing_archive_is_damaged(tmp_path, name):
    with pytest.raises(DataError, match=DAMAGED):
        read_index(tmp_path / name)
    with pytest.raises(DataError, match=DAMAGED):
        list(read_members(tmp_path / name, np.zeros(0, dtype=[])))


def test_an_archive_without_members_is_damaged(tmp_path):
    with pytest.raises(DataError, match=DAMAGED):
        read_index(write(tmp_path / "images.zip", {}))


def test_an_archive_that_compresses_is_not_ours(tmp_path):
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/1.png", bytes(1000))
    with pytest.raises(DataError, match=DAMAGED):
        read_index(path)


def test_an_end_that_counts_fewer_members_is_told(tmp_path):
    path = write(tmp_path / "images.zip", MEMBERS)
    content = path.read_bytes()
    assert content[-12:-10] == len(MEMBERS).to_bytes(2, "little")
    path.write_bytes(content[:-12] + (len(MEMBERS) - 1).to_bytes(2, "little") + content[-10:])
    with pytest.raises(DataError, match=DAMAGED):
        read_index(path)


def test_a_name_that_became_that_of_another_member_is_told(tmp_path):
    path = write(tmp_path / "images.zip", {"cat/1.png": b"one", "cat/2.png": b"two"})
    path.write_bytes(path.read_bytes().replace(b"cat/2.png", b"cat/1.png"))
    with pytest.raises(DataError, match=DAMAGED):
        read_index(path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_one_changed_byte_is_told_or_changes_no_content(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("pack") / "images.zip", MEMBERS)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = read(path)
    except DataError:
        return
    # What is left of the headers: dates, flags, names.
    assert sorted(found.values()) == sorted(MEMBERS.values())
