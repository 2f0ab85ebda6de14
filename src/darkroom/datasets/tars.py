"""Open tar archives with bounds, so that no file occupies the reader for minutes."""

import tarfile
from pathlib import Path
from typing import Any, Self

from darkroom.errors import DataError

# A header holds a name and some numbers. Older releases of Python take a time that grows with the square of its
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
    """A header is larger than any name needs. Not a tarfile error, because tarfile ignores some of those."""


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
    """``tarfile.open``, except that reading a member with a very large header raises HeaderError."""
    opened: tarfile.TarFile = tarfile.open(source, tarinfo=_Member, **options)  # noqa: SIM115 - a context for the caller
    return opened


def is_tar(source: Path) -> bool:
    """``tarfile.is_tarfile``; also true if its first header is refused, which ``open_tar`` will report."""
    try:
        with open_tar(source):
            return True
    except tarfile.TarError:
        return False
    except HeaderError:
        return True
