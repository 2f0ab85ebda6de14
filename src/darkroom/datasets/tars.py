"""Tar archives, opened so that none keeps its reader busy for minutes."""

import tarfile
from pathlib import Path
from typing import Any, Self

from darkroom.errors import DataError

# A header holds a name and some figures. Older releases of Python take a time that grows with the square of its
# size: 32 MB of it, which fit into some kilobytes, took a hundred seconds and 1.6 GB.
MAX_HEADER_BYTES = 1 << 16
EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class HeaderError(DataError):
    """A header is larger than any name needs. No error of tarfile, which passes over some of its own."""


class _Member(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in EXTENDED and member.size > MAX_HEADER_BYTES:
            raise HeaderError(
                f"damaged or unsupported archive (a header of {member.size:,} bytes, more than {MAX_HEADER_BYTES:,})"
            )
        return member


def open_tar(source: Path | None = None, **options: Any) -> tarfile.TarFile:
    """``tarfile.open``, except that a member with a very large header raises HeaderError as it is met."""
    opened: tarfile.TarFile = tarfile.open(source, tarinfo=_Member, **options)  # noqa: SIM115 - a context for the caller
    return opened


def is_tar(source: Path) -> bool:
    """``tarfile.is_tarfile``; it is one as well if its first header is refused, which ``open_tar`` will say."""
    try:
        with open_tar(source):
            return True
    except tarfile.TarError:
        return False
    except HeaderError:
        return True
