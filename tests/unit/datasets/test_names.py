"""Names of files: decoded as they are meant or refused, composed, and never two of one."""

import io
import struct
import tarfile
import unicodedata
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.datasets.archives import pack
from darkroom.datasets.names import compose, is_hidden, visible_folder
from darkroom.errors import DataError

WINDOWS = 0
UNIX = 3
NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def zip_with(path, raw_names, system=WINDOWS, extra=b""):
    """A zip whose members' names are these bytes, without a word of their encoding."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, raw in enumerate(raw_names):
            info = zipfile.ZipInfo(f"{number:04}".ljust(len(raw), "_"))
            info.create_system, info.extra = system, extra
            archive.writestr(info, bytes([number]))
    content = path.read_bytes()
    for number, raw in enumerate(raw_names):
        assert len(raw) >= 4
        content = content.replace(f"{number:04}".ljust(len(raw), "_").encode(), raw)
    path.write_bytes(content)
    return path


def packed(source, **options):
    target = source.parent / "out" / "images.zip"
    pack(source, target, **options)
    with zipfile.ZipFile(target) as archive:
        return archive.namelist()


@pytest.mark.parametrize(
    ("encoding", "kind"), [("gbk", "猫"), ("shift_jis", "ソ連"), ("euc_kr", "고양이"), ("cp850", "Käse")]
)
def test_names_are_read_by_the_setting(tmp_path, encoding, kind):
    source = zip_with(tmp_path / "a.zip", [f"{kind}/1.png".encode(encoding), b"dog/1.png"])
    assert packed(source, encoding=encoding) == sorted([f"{kind}/1.png", "dog/1.png"])


@pytest.mark.parametrize("system", [WINDOWS, UNIX])
@pytest.mark.parametrize("kind", ["猫", "狗", "犬"])  # the first and the last would be letters in UTF-8 too
def test_names_without_an_encoding_are_refused_with_what_they_could_be(tmp_path, kind, system):
    source = zip_with(tmp_path / "a.zip", [f"{kind}/1.png".encode("gbk")], system)
    with pytest.raises(
        DataError, match=rf"a\.zip: the name .*set dataset\.encoding: .*gbk reads '{kind}/1\.png'"
    ) as told:
        packed(source)
    assert "\n" not in str(told.value)
    assert "cp437 reads" in str(told.value)


def test_a_japanese_name_is_shown_as_shift_jis_reads_it(tmp_path):
    source = zip_with(tmp_path / "a.zip", ["テスト猫/1.png".encode("shift_jis")])
    with pytest.raises(DataError, match=r"is not UTF-8; rename it, or set .*shift_jis reads 'テスト猫/1\.png'"):
        packed(source)


def test_an_encoding_that_does_not_read_a_name_is_refused(tmp_path):
    source = zip_with(tmp_path / "a.zip", ["ｱ猫/1.png".encode("shift_jis")])
    with pytest.raises(DataError, match=r"is not ascii; .*shift_jis reads"):
        packed(source, encoding="ascii")


@pytest.mark.parametrize("system", [WINDOWS, UNIX])
def test_unsaid_utf_8_of_three_bytes_a_letter_is_taken(tmp_path, system):
    assert packed(zip_with(tmp_path / "a.zip", ["猫/1.png".encode()], system)) == ["猫/1.png"]


@pytest.mark.parametrize("kind", ["café", "кошка", "Übung"])
def test_unsaid_utf_8_of_two_bytes_a_letter_is_taken_for_words_of_unix(tmp_path, kind):
    raw = f"{kind}/1.png".encode()
    assert packed(zip_with(tmp_path / "a.zip", [raw], UNIX)) == [f"{kind}/1.png"]
    with pytest.raises(DataError, match=f"utf-8 reads '{kind}/1.png'"):
        packed(zip_with(tmp_path / "a.zip", [raw], WINDOWS))


def unicode_path(raw, name, version=1):
    field = struct.pack("<BL", version, zlib.crc32(raw)) + name.encode()
    return struct.pack("<HH", 0x7075, len(field)) + field


def test_the_unicode_name_of_info_zip_is_followed(tmp_path):
    raw = "猫/1.png".encode("gbk")
    source = zip_with(tmp_path / "a.zip", [raw], extra=b"\x99\x99\1\0x" + unicode_path(raw, "猫/1.png"))
    assert packed(source) == ["猫/1.png"]
    assert packed(source, encoding="shift_jis") == ["猫/1.png"]


@pytest.mark.parametrize(
    "extra", [unicode_path(b"other", "猫/1.png"), unicode_path("猫/1.png".encode("gbk"), "x", 2), b"\x75"]
)
def test_a_unicode_name_of_another_name_is_not_followed(tmp_path, extra):
    source = zip_with(tmp_path / "a.zip", ["猫/1.png".encode("gbk")], extra=extra)
    with pytest.raises(DataError, match=r"set dataset\.encoding"):
        packed(source)


def test_a_name_that_says_utf_8_is_not_read_by_the_setting(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("猫/1.png", b"x")
    assert packed(tmp_path / "a.zip", encoding="gbk") == ["猫/1.png"]


def test_a_name_that_leads_outside_once_decoded_is_refused(tmp_path):
    source = zip_with(tmp_path / "a.zip", ["../猫/1.png".encode("gbk")])
    with pytest.raises(DataError, match="leads outside"):
        packed(source, encoding="gbk")


def tar_with(path, names):
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
    return path


def test_a_tar_of_another_encoding_is_read_by_the_setting(tmp_path):
    # A backslash is half of the first letter.
    name = "ソ連/1.png".encode("shift_jis").decode("utf-8", "surrogateescape")
    source = tar_with(tmp_path / "a.tar", [name])
    assert packed(source, encoding="shift_jis") == ["ソ連/1.png"]
    with pytest.raises(DataError, match=r"shift_jis reads 'ソ連/1\.png'"):
        packed(source)


def as_directory(path, names):
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"x")
    return path


def as_zip(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return path


MAKE = {"directory": as_directory, "zip": as_zip, "tar": tar_with}


@pytest.mark.parametrize("kind", MAKE)
def test_letters_and_their_accents_are_put_together(tmp_path, kind):
    source = MAKE[kind](tmp_path / "a", [f"train/{NFC}/1.png", f"test/{NFD}/1.png"])
    assert sorted(packed(source)) == [f"test/{NFC}/1.png", f"train/{NFC}/1.png"]


@pytest.mark.parametrize("kind", MAKE)
def test_two_spellings_of_one_name_are_refused_with_both(tmp_path, kind):
    source = MAKE[kind](tmp_path / "a", [f"{NFC}/1.png", f"{NFD}/1.png"])
    with pytest.raises(DataError, match=r"holds 'café/1\.png' more than once") as told:
        packed(source)
    assert r"'caf\xe9/1.png'" in str(told.value)
    assert r"'cafe\u0301/1.png'" in str(told.value)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_composing_keeps_the_text_and_is_done_once(name):
    composed = compose(name, None, "source")
    assert composed == unicodedata.normalize("NFC", name)
    assert compose(composed, None, "source") == composed


@pytest.mark.parametrize(
    ("name", "folder"), [(".a.png", ""), (".git/a.png", ""), ("cat/._1.png", "cat"), ("cat/__MACOSX/x/1.png", "cat")]
)
def test_hidden_files_belong_to_the_folder_that_is_seen(name, folder):
    assert is_hidden(name)
    assert visible_folder(name) == folder


@pytest.mark.parametrize("name", ["a.png", "a.b/c.d", "cat/x__MACOSX/1.png", "a../1.png"])
def test_other_files_are_seen(name):
    assert not is_hidden(name)
    assert visible_folder(name) == name.rpartition("/")[0]
