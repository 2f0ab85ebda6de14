"""The files behind an address: their names, sizes and published checksums."""

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.datasets.remote.stores import WORKERS, attempt, in_parallel
from darkroom.datasets.source import ReportProgress
from darkroom.errors import DownloadError, counted

MD5 = re.compile(r"[0-9a-f]{32}")
# Where a server publishes what changes with the content, the best first.
TAGS = ("ETag", "etag", "Content-MD5", "Digest", "generation", "Last-Modified", "LastModified")
LISTING = "list"


@dataclass(frozen=True)
class RemoteFile:
    """A file behind the address ``path``, and its ``name`` on this machine, with ``/`` between its parts.

    ``size`` in bytes, None if the server does not say; ``tag`` changes with the content, "" if there is none; ``md5``
    is what the content should have, as 32 hexadecimal digits, "" if that is not published. (An ETag of S3 of this form
    is the MD5, except in buckets that are encrypted with a key of one's own.)
    """

    name: str
    path: str
    size: int | None
    tag: str
    md5: str

    @classmethod
    def of(cls, name: str, path: str, info: Mapping[str, Any]) -> "RemoteFile":
        tag = next((str(info[key]).removeprefix("W/").strip('"') for key in TAGS if info.get(key)), "")
        published = info.get("md5Hash") or info.get("Content-MD5")
        md5 = base64.b64decode(published).hex() if published else tag.lower()
        is_md5 = published or path.startswith("s3://")
        return cls(name, path, info.get("size"), tag, md5 if is_md5 and MD5.fullmatch(md5) else "")


def list_prefix(store: Any, address: str, report: ReportProgress) -> list[RemoteFile]:
    """The files below ``address``, a bucket or a prefix in one, sorted by their names.

    Folders are listed in parallel once there are several. Raises DownloadError.
    """
    scheme, _, root = address.rstrip("/").partition("://")
    found: dict[str, Mapping[str, Any]] = {}
    folders = {root}

    def add(entries: Iterable[Mapping[str, Any]]) -> list[str]:
        """Keep the files among ``entries``. Returns the folders."""
        inner = []
        for entry in entries:
            name = entry["name"]
            if entry["type"] == "directory":
                inner.append(name.rstrip("/"))
            elif not name.endswith("/") or entry["size"]:  # an empty one marks a folder
                found[name] = entry
        if double := sorted(folders.intersection(inner)):
            raise DownloadError(
                f"{scheme}://{double[0]}//: a folder without a name; rename or remove what it holds there"
            )
        folders.update(inner)
        report(LISTING, len(found), 0)
        return inner

    open_folders = add(attempt(lambda: _children(store, root), address))
    while open_folders and len(open_folders) < WORKERS:
        listed = in_parallel(
            lambda folder, ended: attempt(lambda: _children(store, folder), f"{scheme}://{folder}", ended), open_folders
        )
        open_folders = [folder for entries in listed for folder in add(entries)]
    for entries in in_parallel(
        lambda folder, ended: attempt(
            lambda: list(store.find(folder, detail=True).values()), f"{scheme}://{folder}", ended
        ),
        open_folders,
    ):
        add(entries)
    if not found:
        raise DownloadError(f"{address}: no files there; set dataset.path to a bucket or a prefix that holds images")
    if root in found:
        raise DownloadError(f"{address}: a file; expected a prefix of images, an archive (.zip) or a table (.csv)")
    names = [(path[len(root) + 1 :], path) for path in sorted(found)]
    _refuse_unusable(address, [name for name, _ in names])
    return [RemoteFile.of(name, f"{scheme}://{path}", found[path]) for name, path in names]


def _children(store: Any, folder: str) -> list[Mapping[str, Any]]:
    """The files and folders directly in a folder; none if nothing is there."""
    try:
        return list(store.ls(folder, detail=True, refresh=True))
    except FileNotFoundError as problem:
        if problem.__cause__ or problem.__context__:  # an answer, such as that there is no such bucket
            raise
        return []


def look_up(store: Any, names: Mapping[str, str], report: ReportProgress) -> list[RemoteFile]:
    """The files at the addresses ``names``, which holds the name on this machine of each. Raises DownloadError."""
    _refuse_unusable("the addresses", sorted(names.values()))
    found = []
    looked = in_parallel(lambda address, ended: attempt(lambda: _info(store, address), address, ended), names)
    for (address, name), info in zip(names.items(), looked, strict=True):
        found.append(RemoteFile.of(name, address, info))
        report(LISTING, len(found), len(names))
    return found


def _info(store: Any, address: str) -> Mapping[str, Any]:
    try:
        info: Mapping[str, Any] = store.info(address)
    except FileNotFoundError:
        raise
    except Exception:  # of any kind: it is raised again, unless a read gives a better reason
        # The answer to a HEAD request has no body, and so no reason. The answer to a read has one.
        store.cat_file(address, start=0, end=1)
        raise
    if info["type"] == "directory":
        raise FileNotFoundError
    return info


def _refuse_unusable(address: str, names: list[str]) -> None:
    """Refuse names that cannot be those of files, or that are also a folder's."""
    folders: set[str] = set()
    for name in names:
        parts = name.split("/")
        if not all(parts) or {".", ".."}.intersection(parts) or "\0" in name:
            raise DownloadError(f"{address}: {name!r} cannot be the name of a file; rename or remove it there")
        folders.update("/".join(parts[:count]) for count in range(1, len(parts)))
    both = sorted(folders.intersection(names))
    if both:
        raise DownloadError(
            f"{address}: {counted(len(both), 'name')} of both a file and a folder, such as {both[0]!r}; rename or "
            "remove one there"
        )
