"""Packing a person's images: the same archive for the same images, and a refusal for what is unsafe or damaged."""

import io
import shutil
import tarfile
import warnings
import zipfile

import numpy as np
import pytest

from darkroom.datasets import archives
from darkroom.datasets.archives import pack
from darkroom.errors import DataError

# The order that names sort in differs from the order in which directories are walked: "-" sorts before "/".
IMAGES = {
    "a-b/1.png": b"first",
    "a/1.png": b"second",
    "a/deeper/2.JPG": b"third" * 1000,
    "z/ä.webp": b"",
}
NO_IMAGES = {
    "a/notes.txt": b"text",
    "a/.1.png": b"hidden",
    ".git/1.png": b"hidden",
    "__MACOSX/a/._1.png": b"resource fork",
    "a/__MACOSX/1.png": b"resource fork",
}


def as_directory(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def as_zip(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            # The date differs from that of any other source, and must not matter.
            archive.writestr(zipfile.ZipInfo(name, (2001, 2, 3, 4, 5, 6)), content, compression)
    return path


def as_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1234567890
            archive.addfile(info, io.BytesIO(content))
    return path


SOURCES = {
    "directory": as_directory,
    "zip": as_zip,
    "stored zip": lambda path, files: as_zip(path, files, zipfile.ZIP_STORED),
    "tar": as_tar,
    "tar.gz": lambda path, files: as_tar(path, files, "w:gz"),
    "tar.bz2": lambda path, files: as_tar(path, files, "w:bz2"),
    "tar.xz": lambda path, files: as_tar(path, files, "w:xz"),
}


def packed_content(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def listing(directory):
    return {path.name: path.is_file() and path.read_bytes() for path in directory.glob("*")}


def assert_refused(source, target, match):
    """The refusal says so, and leaves the target's directory as it was."""
    before = listing(target.parent)
    with pytest.raises(DataError, match=match):
        pack(source, target)
    assert listing(target.parent) == before


@pytest.mark.parametrize("kind", SOURCES)
def test_every_image_is_packed_and_nothing_else(tmp_path, kind):
    source = SOURCES[kind](tmp_path / "source", IMAGES | NO_IMAGES)
    assert pack(source, tmp_path / "out" / "images.zip").images == 4
    assert packed_content(tmp_path / "out" / "images.zip") == IMAGES


@pytest.mark.parametrize("kind", SOURCES)
def test_the_same_images_make_the_same_bytes(tmp_path, kind):
    pack(as_directory(tmp_path / "reference", IMAGES), tmp_path / "reference.zip")
    pack(SOURCES[kind](tmp_path / "source", IMAGES | NO_IMAGES), tmp_path / "images.zip")
    assert (tmp_path / "images.zip").read_bytes() == (tmp_path / "reference.zip").read_bytes()


@pytest.mark.parametrize("kind", ["directory", "zip"])
def test_the_order_of_the_source_does_not_matter(tmp_path, kind):
    pack(SOURCES[kind](tmp_path / "one", IMAGES), tmp_path / "one.zip")
    pack(SOURCES[kind](tmp_path / "other", dict(reversed(IMAGES.items()))), tmp_path / "other.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()


def test_one_changed_byte_makes_another_archive(tmp_path):
    pack(as_directory(tmp_path / "one", IMAGES), tmp_path / "one.zip")
    pack(as_directory(tmp_path / "other", IMAGES | {"a/1.png": b"Second"}), tmp_path / "other.zip")
    assert (tmp_path / "one.zip").read_bytes() != (tmp_path / "other.zip").read_bytes()


def test_progress_counts_the_images(tmp_path):
    seen = []
    pack(as_directory(tmp_path / "source", IMAGES), tmp_path / "images.zip", seen.append)
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "plain"), [("./cat/1.png", "cat/1.png"), ("cat\\1.png", "cat/1.png"), ("cat..2/1.png", "cat..2/1.png")]
)
def test_names_are_written_with_plain_slashes(tmp_path, name, plain):
    pack(as_zip(tmp_path / "source.zip", {name: b"x"}), tmp_path / "images.zip")
    assert packed_content(tmp_path / "images.zip") == {plain: b"x"}


def test_hidden_folders_are_ignored_with_backslashes_too(tmp_path):
    source = as_zip(tmp_path / "source.zip", {"cat\\1.png": b"x", "__MACOSX\\cat\\1.png": b"fork"})
    assert pack(source, tmp_path / "images.zip").images == 1


def test_a_missing_source_is_refused(tmp_path):
    assert_refused(tmp_path / "nowhere", tmp_path / "images.zip", "nowhere: not found; set dataset.path to a directory")


@pytest.mark.parametrize(
    "content", [b"", b"plain text", b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0", b"PK\x03\x04", b"BZh9"]
)
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "source").write_bytes(content)
    assert_refused(tmp_path / "source", tmp_path / "images.zip", "neither a directory nor a readable zip|damaged")


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_without_images_is_refused(tmp_path, kind):
    source = SOURCES[kind](tmp_path / "source", NO_IMAGES)
    assert_refused(source, tmp_path / "out" / "images.zip", "no images .* found; expected one sub-folder per class")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(
    "name", ["../1.png", "a/../../1.png", "/etc/1.png", "..\\1.png", "\\server\\1.png", "C:\\1.png", "C:/1.png"]
)
def test_a_member_that_leads_outside_is_refused(tmp_path, kind, name):
    source = SOURCES[kind](tmp_path / "source", IMAGES | {name: b"x"})
    assert_refused(source, tmp_path / "images.zip", "leads outside the archive; refused")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE], ids=["symbolic", "hard"])
def test_a_link_in_a_tar_is_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "source.tar", "w") as archive:
        info = tarfile.TarInfo("a/1.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    assert_refused(tmp_path / "source.tar", tmp_path / "images.zip", r"'a/1\.png' is a link; refused")


def test_a_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
        info = zipfile.ZipInfo("a/1.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert_refused(tmp_path / "source.zip", tmp_path / "images.zip", r"'a/1\.png' is a link; refused")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_two_members_of_one_name_are_refused(tmp_path, kind):
    source = SOURCES[kind](tmp_path / "source", IMAGES | {"./a/1.png": b"which one?"})
    assert_refused(source, tmp_path / "images.zip", r"holds 'a/1\.png' more than once")


def test_a_name_that_is_not_unicode_is_refused(tmp_path):
    # As a Latin-1 system writes it.
    source = as_tar(tmp_path / "source.tar", {"a/\udce4.png": b"x"})
    assert_refused(source, tmp_path / "images.zip", r"'a/\\xe4\.png' is not UTF-8; rename it")


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("bound", ["MAX_FILE_BYTES", "MAX_TOTAL_BYTES"])
def test_too_many_bytes_are_refused(tmp_path, monkeypatch, kind, bound):
    monkeypatch.setattr(archives, bound, 4000)
    source = SOURCES[kind](tmp_path / "source", IMAGES)
    assert_refused(source, tmp_path / "images.zip", r"2\.JPG: larger than [34],\d\d\d bytes when unpacked; refused")


def test_as_many_bytes_as_allowed_are_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 5000)
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 5011)
    assert pack(as_directory(tmp_path / "source", IMAGES), tmp_path / "images.zip").images == 4


@pytest.mark.parametrize(("bound", "allowed"), [("MAX_FILE_BYTES", 4999), ("MAX_TOTAL_BYTES", 5010)])
def test_one_byte_more_than_allowed_is_refused(tmp_path, monkeypatch, bound, allowed):
    monkeypatch.setattr(archives, bound, allowed)
    assert_refused(as_directory(tmp_path / "source", IMAGES), tmp_path / "images.zip", "bytes when unpacked; refused")


def test_a_zip_that_lies_about_its_sizes_is_held_to_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1000)
    source = as_zip(tmp_path / "source.zip", {"a/1.png": bytes(100_000)})
    content = source.read_bytes()
    # The directory at the end promises one byte.
    source.write_bytes(content.replace((100_000).to_bytes(4, "little"), (1).to_bytes(4, "little")))
    assert_refused(source, tmp_path / "images.zip", "damaged|larger than")


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    assert_refused(as_directory(tmp_path / "source", IMAGES), tmp_path / "images.zip", "more than 3 images")


def noise(count):
    generator = np.random.default_rng(0)
    return {f"{'ab'[number % 2]}/{number}.png": generator.bytes(3000) for number in range(count)}


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["zip", "stored zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_truncated_archive_is_refused(tmp_path, kind, kept):
    source = SOURCES[kind](tmp_path / "source", noise(40))
    content = source.read_bytes()
    source.write_bytes(content[: int(len(content) * kept)])
    assert_refused(source, tmp_path / "images.zip", "damaged or unsupported archive|neither a directory nor")


@pytest.mark.parametrize("kind", ["zip", "stored zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_one_flipped_bit_in_an_archive_with_checksums_is_refused(tmp_path, kind):
    source = SOURCES[kind](tmp_path / "source", noise(10))
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    source.write_bytes(content)
    assert_refused(source, tmp_path / "images.zip", "damaged or unsupported archive|neither a directory nor")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_an_archive_with_overwritten_bytes_is_refused(tmp_path, kind):
    # Compressible content: what is overwritten is the code itself, not only the bytes that it carries.
    text = "".join(str(number**2) for number in range(20_000)).encode()
    source = SOURCES[kind](tmp_path / "source", {"a/1.png": text, "b/1.png": text})
    content = bytearray(source.read_bytes())
    content[1000:1100] = b"\xff" * 100
    source.write_bytes(content)
    assert_refused(source, tmp_path / "images.zip", "damaged or unsupported archive|neither a directory nor")


def test_a_zip_without_its_beginning_is_refused(tmp_path):
    source = as_zip(tmp_path / "source.zip", noise(4))
    source.write_bytes(source.read_bytes()[10:])
    assert_refused(source, tmp_path / "images.zip", "damaged or unsupported archive")


def test_an_encrypted_zip_is_refused(tmp_path):
    source = as_zip(tmp_path / "source.zip", {"a/1.png": b"secret"}, zipfile.ZIP_STORED)
    content = bytearray(source.read_bytes())
    # Bit 0 of the flags, at offset 6 of the member's header and 8 of its entry in the directory.
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    source.write_bytes(content)
    assert_refused(source, tmp_path / "images.zip", "damaged or unsupported archive .*encrypted")


def test_a_refusal_keeps_what_was_packed_before(tmp_path):
    target = tmp_path / "out" / "images.zip"
    pack(as_directory(tmp_path / "good", IMAGES), target)
    assert_refused(as_directory(tmp_path / "none", NO_IMAGES), target, "no images")
    assert_refused(as_zip(tmp_path / "bad.zip", {"a/1.png": b"x", "../1.png": b"x"}), target, "leads outside")
    assert packed_content(target) == IMAGES


def test_a_full_disk_is_not_taken_for_a_damaged_archive(tmp_path, monkeypatch):
    def full(content, written, what, left):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_copy", full)
    with pytest.raises(OSError, match="No space left"):
        pack(as_tar(tmp_path / "source.tar", IMAGES), tmp_path / "out" / "images.zip")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("link", ["a/up", "a/deeper/up", "up"])
def test_a_link_that_leads_back_up_ends_the_walk(tmp_path, link):
    source = as_directory(tmp_path / "source", IMAGES)
    (source / link).symlink_to(source, target_is_directory=True)
    pack(source, tmp_path / "images.zip")
    assert packed_content(tmp_path / "images.zip") == IMAGES


def test_two_directories_that_link_to_each_other_end_the_walk(tmp_path):
    source = as_directory(tmp_path / "source", {"a/1.png": b"a", "b/1.png": b"b"})
    (source / "a" / "to").symlink_to(source / "b", target_is_directory=True)
    (source / "b" / "to").symlink_to(source / "a", target_is_directory=True)
    pack(source, tmp_path / "images.zip")
    expected = {"a/1.png": b"a", "a/to/1.png": b"b", "b/1.png": b"b", "b/to/1.png": b"a"}
    assert packed_content(tmp_path / "images.zip") == expected


def test_classes_may_be_links_to_directories_elsewhere(tmp_path):
    as_directory(tmp_path / "elsewhere", {"1.png": b"x"})
    (tmp_path / "source").mkdir()
    for name in ("cat", "feline"):
        (tmp_path / "source" / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    pack(tmp_path / "source", tmp_path / "images.zip")
    assert packed_content(tmp_path / "images.zip") == {"cat/1.png": b"x", "feline/1.png": b"x"}


def test_a_link_to_an_image_is_packed_as_the_image(tmp_path):
    source = as_directory(tmp_path / "source", {"a/1.png": b"x"})
    (source / "a" / "2.png").symlink_to(source / "a" / "1.png")
    pack(source, tmp_path / "images.zip")
    assert packed_content(tmp_path / "images.zip") == {"a/1.png": b"x", "a/2.png": b"x"}


def test_a_link_to_nowhere_is_refused(tmp_path):
    source = as_directory(tmp_path / "source", IMAGES)
    (source / "a" / "2.png").symlink_to(tmp_path / "gone.png")
    assert_refused(source, tmp_path / "images.zip", r"2\.png: cannot be read \(No such file or directory\)")


def test_a_folder_that_vanishes_is_refused_and_not_left_out(tmp_path, monkeypatch):
    source = as_directory(tmp_path / "source", IMAGES)
    monkeypatch.setattr(archives, "leads_back_up", lambda directory, source: shutil.rmtree(source / "a", True))
    assert_refused(source, tmp_path / "images.zip", "cannot be read")


def test_packing_warns_of_nothing(tmp_path):
    source = as_zip(tmp_path / "source.zip", IMAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pack(source, tmp_path / "images.zip").images == 4


def packed_names(source, tmp_path):
    pack(source, tmp_path / "packed.zip")
    with zipfile.ZipFile(tmp_path / "packed.zip") as opened:
        return sorted(opened.namelist())


def test_a_directory_of_archives_is_read_as_if_each_was_a_folder(tmp_path):
    source = tmp_path / "source"
    as_directory(source, {"README.txt": b"text", ".DS_Store": b"hidden", "train/._cat.zip": b"hidden"})
    as_zip(source / "train" / "cat.zip", {"1.png": b"1"})
    as_tar(source / "train" / "dog.v2.TAR.GZ", {"2.png": b"2", "deeper/3.png": b"3"}, "w:gz")

    assert packed_names(source, tmp_path) == ["train/cat/1.png", "train/dog.v2/2.png", "train/dog.v2/deeper/3.png"]


def test_the_parts_of_an_archive_are_one_folder(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        as_tar(source / f"train-{number:04}.tar", {f"cat/{number}.png": b"1"})
    as_tar(source / "n01440764.tar", {"9.png": b"9"})

    assert packed_names(source, tmp_path) == ["n01440764/9.png", *(f"train/cat/{number}.png" for number in range(3))]


@pytest.mark.parametrize("others", [["grade_1.zip", "grade_2.zip"], ["cat.zip", "cat.tar"]])
def test_archives_that_may_be_classes_or_parts_of_one_are_refused(tmp_path, others):
    source = tmp_path / "source"
    source.mkdir()
    for name in [*others, "healthy.zip"]:
        as_zip(source / name, {f"{name}.png": b"1"})

    with pytest.raises(DataError, match=rf"source: are {others[0]}|source: are .*{others[1]}") as refused:
        packed_names(source, tmp_path)

    assert str(refused.value).endswith("classes, or parts of one archive? Unpack them into one folder per class")


@pytest.mark.parametrize("name", ["dog.7z", "dog.RAR", "dog.tar.zst"])
def test_an_archive_of_another_kind_beside_archives_is_refused(tmp_path, name):
    source = tmp_path / "source"
    source.mkdir()
    as_zip(source / "cat.zip", {"1.png": b"1"})
    (source / name).write_bytes(b"packed")

    with pytest.raises(DataError, match=rf"source: {name} cannot be read; unpack it, and pack it as a zip or tar$"):
        packed_names(source, tmp_path)


def test_a_single_archive_keeps_the_number_in_its_name(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    as_zip(source / "2019-01.zip", {"1.png": b"1"})
    as_zip(source / "healthy.zip", {"1.png": b"1"})

    assert packed_names(source, tmp_path) == ["2019-01/1.png", "healthy/1.png"]


def test_a_license_beside_archives_is_no_image(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    as_zip(source / "cat.zip", {"1.png": b"1"})
    (source / "LICENSE").write_text("As is.")

    assert packed_names(source, tmp_path) == ["cat/1.png"]


def test_archives_beside_images_are_left_out_as_before(tmp_path):
    source = as_directory(tmp_path / "source", {"cat/1.png": b"1"})
    as_zip(source / "cat" / "more.zip", {"2.png": b"2"})
    assert packed_names(source, tmp_path) == ["cat/1.png"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_bytes(b"nothing"), r"a\.zip: neither a directory nor a readable zip or tar archive"),
        (lambda path: as_zip(path, {"../1.png": b"1"}), r"a\.zip: member '\.\./1\.png' leads outside"),
        (lambda path: as_zip(path, {"1.txt": b"1"}), "no images"),
    ],
)
def test_a_directory_of_archives_is_refused_as_each_of_them(tmp_path, make, reason):
    (tmp_path / "source").mkdir()
    make(tmp_path / "source" / "a.zip")
    with pytest.raises(DataError, match=reason):
        pack(tmp_path / "source", tmp_path / "packed.zip")
    assert not (tmp_path / "packed.zip").exists()


def test_a_file_in_two_parts_is_refused(tmp_path):
    (tmp_path / "source").mkdir()
    for number in range(2):
        as_zip(tmp_path / "source" / f"part_{number}.zip", {"cat/1.png": b"1"})
    with pytest.raises(DataError, match=r"'part/cat/1\.png' more than once, as 'part_0\.zip: cat/1\.png' and 'part_1"):
        pack(tmp_path / "source", tmp_path / "packed.zip")
