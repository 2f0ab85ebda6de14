"""The pictures that an address names: one, those of an archive or below a prefix, and those that match a pattern."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from darkroom.config.addresses import WEB, check_address, without_scheme
from darkroom.datasets.archives import SUFFIXES as ARCHIVES
from darkroom.datasets.names import is_hidden
from darkroom.datasets.remote.listing import RemoteFile, list_prefix, look_up
from darkroom.datasets.remote.stores import attempt, open_store
from darkroom.datasets.signatures import FORMATS, has_image_suffix
from darkroom.datasets.source import ReportProgress
from darkroom.errors import DataError, DownloadError
from darkroom.prediction.shards import NAMED, RemoteArchive, RemoteFiles, Shard, common_directory, in_shards

# A "?" begins the query of an address, and is refused.
PATTERN_MARKS = frozenset("*[")


class Addresses:
    """Pictures and archives of one store, in the order of ``files``. Archives have names of ``ARCHIVES``.

    ``count`` is 0 if it is unknown until they are read. ``others`` are beside them and no pictures.
    """

    def __init__(self, files: Sequence[RemoteFile], encoding: str | None, others: Sequence[RemoteFile] = ()) -> None:
        self.files, self.encoding = files, encoding
        self.left_out = len(others)
        self.left_out_names = [file.path for file in others[:NAMED]]
        self.count = 0 if any(map(_is_archive, files)) else len(files)

    def shards(self) -> Iterator[Shard]:
        for is_archive, files in groupby(self.files, _is_archive):
            if is_archive:
                yield from (RemoteArchive(file, self.encoding) for file in files)
            else:
                yield from map(RemoteFiles, in_shards(files))


def check(address: str) -> None:
    """Raises DataError, without what may be a secret, if nothing can be read from an address."""
    try:
        check_address(address)
    except ValueError as problem:
        raise DataError(str(problem)) from None


def is_single(address: str) -> bool:
    """Whether an address names one file: a picture or an archive."""
    return not PATTERN_MARKS & set(address) and (has_image_suffix(address) or address.lower().endswith(ARCHIVES))


def look_up_all(addresses: Sequence[str], encoding: str | None, report: ReportProgress) -> Addresses:
    """The files at ``addresses``, which have one scheme. Raises DataError if one cannot be read."""
    shared = len(common_directory([without_scheme(address) for address in addresses], "/"))
    names = {address: without_scheme(address)[shared:] for address in addresses}
    found = {file.path: file for file in look_up(open_store(addresses[0]), names, report)}
    return Addresses([found[address] for address in addresses], encoding)


def find(address: str, encoding: str | None, report: ReportProgress) -> Addresses:
    """What matches an address with a pattern, or lies below one without. Raises DataError if no picture does."""
    scheme = address.partition("://")[0].lower()
    if scheme in WEB:
        raise DownloadError(
            f"{address}: a web server has no standard listing of its files; expected an image ({FORMATS}) or an "
            f"archive ({', '.join(ARCHIVES)})"
        )
    if PATTERN_MARKS & set(address):
        return _match(address, encoding, report)
    files = list_prefix(open_store(address), address, report)
    pictures = [file for file in files if has_image_suffix(file.name) and not is_hidden(file.name)]
    if not pictures:
        archives = sum(map(_is_archive, files))
        hint = f"; `{address.rstrip('/')}/*` names the {archives:,} archives there, in quotes" if archives else ""
        raise DataError(f"{address}: no images found there{hint}")
    others = [file for file in files if not (has_image_suffix(file.name) or is_hidden(file.name))]
    return Addresses(pictures, encoding, others)


def _match(address: str, encoding: str | None, report: ReportProgress) -> Addresses:
    scheme, _, pattern = address.partition("://")
    if PATTERN_MARKS & set(pattern.partition("/")[0]):
        raise DataError(f"{address}: a pattern in the name of the bucket; give one address for each")
    store = open_store(address)
    matches: dict[str, Any] = attempt(lambda: store.glob(pattern, detail=True), address)
    folder = len(common_directory(list(matches), "/")) if matches else 0
    files = [
        RemoteFile.of(path[folder:], f"{scheme}://{path}", matches[path])
        for path in sorted(matches)
        if matches[path]["type"] == "file" and is_single(f"{scheme}://{path}") and not is_hidden(path[folder:])
    ]
    if not files:
        raise DataError(f"{address}: no image and no archive matches this pattern")
    report("list", len(files), 0)
    return Addresses(files, encoding)


def _is_archive(file: RemoteFile) -> bool:
    return file.path.lower().endswith(ARCHIVES)
