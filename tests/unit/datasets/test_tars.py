"""A tar whose headers are larger than any name needs is refused at once, before they are read."""

import io
import tarfile

import pytest
from PIL import Image
from tests.unit.images.image_files import encoded

from darkroom.datasets.archives import list_images
from darkroom.datasets.tables import _open
from darkroom.datasets.tars import MAX_HEADER_BYTES, HeaderError, is_tar, open_tar
from darkroom.errors import DataError

KINDS = {"of one member": tarfile.XHDTYPE, "of all": tarfile.XGLTYPE, "a long name": tarfile.GNUTYPE_LONGNAME}


def write(path, kind, size):
    """A compressed tar with a header of ``size`` bytes, and an image in each of two folders behind it."""
    picture = encoded(Image.new("L", (4, 4)))
    record = b"2048 comment=" + b"x" * 2034 + b"\n"
    content = b"a" * size if kind == tarfile.GNUTYPE_LONGNAME else record * (size // len(record))
    with tarfile.open(path, "w:gz") as archive:
        header = tarfile.TarInfo("header")
        header.type, header.size = kind, len(content)
        archive.addfile(header, io.BytesIO(content))
        for name in ("a/1.png", "b/1.png"):
            member = tarfile.TarInfo(name)
            member.size = len(picture)
            archive.addfile(member, io.BytesIO(picture))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_very_large_header_is_refused_in_one_line(tmp_path, kind):
    path = tmp_path / "images.tgz"
    write(path, kind, 4 * MAX_HEADER_BYTES)

    assert is_tar(path)
    refusal = r"images\.tgz: damaged or unsupported archive \(a header of 26\d,\d{3} bytes, more than 65,536\)$"
    with pytest.raises(DataError, match=refusal):
        list_images(path)
    with pytest.raises(DataError, match=refusal), _open("labels.csv", path):
        pass


def test_a_large_header_behind_the_first_member_ends_no_archive_early(tmp_path):
    path = tmp_path / "images.tar"
    write(tmp_path / "large.tgz", tarfile.XHDTYPE, 4 * MAX_HEADER_BYTES)
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("a/0.png"))
        with tarfile.open(tmp_path / "large.tgz") as large:
            large.fileobj.seek(0)
            archive.fileobj.write(large.fileobj.read())

    with pytest.raises(HeaderError), open_tar(path) as opened:
        opened.getnames()


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_within_the_bound_is_read(tmp_path, kind):
    path = tmp_path / "images.tgz"
    write(path, kind, MAX_HEADER_BYTES // 2)

    assert list_images(path)[0] == ["a/1.png", "b/1.png"]


def test_what_is_no_tar_is_none(tmp_path):
    path = tmp_path / "images.tar"
    path.write_bytes(b"no archive" * 100)

    assert not is_tar(path)
