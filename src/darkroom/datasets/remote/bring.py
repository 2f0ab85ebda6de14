"""Images from `dataset.path: s3://…, gs://…, https://…`: below a prefix, in an archive, or named in a table."""

import hashlib
import re
import shutil
from pathlib import Path

from darkroom.config.addresses import WEB, is_address
from darkroom.config.settings import Dataset
from darkroom.datasets.archives import SUFFIXES as ARCHIVES
from darkroom.datasets.remote.addressed import read_addresses
from darkroom.datasets.remote.listing import list_prefix, look_up
from darkroom.datasets.remote.mirror import Changes, Mirror
from darkroom.datasets.remote.stores import open_store
from darkroom.datasets.remote.transfer import fetch
from darkroom.datasets.source import ReportProgress
from darkroom.datasets.tables import is_table
from darkroom.errors import DataError, DownloadError
from darkroom.utils.files import atomic_file
from darkroom.utils.scratch import scratch_directory

UNUSUAL = re.compile(r"[^\w.-]+")


def bring(settings: Dataset, place: Path, report: ReportProgress) -> tuple[Dataset, str]:
    """Download the images of `dataset.path`, an address or a table of addresses, to a directory below ``place``.

    Returns the settings of the same images on this machine, and a line on what was downloaded; ``settings`` and "" if
    the images are on this machine. Raises DataError, and keeps what was downloaded for the next attempt.
    """
    address = settings.path.rstrip("/")
    name = address.rpartition("/")[2]
    names_addresses = is_table(name) and (is_address(address) or not Path(address).expanduser().is_dir())
    if settings.name != "folder" or not (is_address(address) or names_addresses):
        return settings, ""
    mirror = Mirror(place / _directory(address))
    path, labels = mirror.files, settings.labels
    if names_addresses:
        if labels is not None:
            raise DataError("dataset.labels: dataset.path is the table of labels already; leave this empty")
        labels, changes = name, _bring_table(address, name, mirror, report)
    elif address.lower().endswith(ARCHIVES):
        store = open_store(address)
        changes = mirror.synchronize(store, look_up(store, {address: name}, report), report)
        path = mirror.files / name
    elif address.startswith(WEB):
        raise DownloadError(
            f"{address}: a web server has no standard listing of its files; expected an archive "
            f"({', '.join(ARCHIVES)}) or a table of addresses (.csv, .parquet)"
        )
    else:
        store = open_store(address)
        changes = mirror.synchronize(store, list_prefix(store, address, report), report)
    return settings.model_copy(update={"path": str(path), "labels": labels}), f"{address}: {changes}"


def _directory(address: str) -> str:
    """A name for the files of an address, which no other address has."""
    return f"{UNUSUAL.sub('-', address.rpartition('/')[2])}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"


def _bring_table(address: str, name: str, mirror: Mirror, report: ReportProgress) -> Changes:
    """Download the images that a table names, and put the table beside them."""
    with scratch_directory() as scratch:
        table = Path(address).expanduser()
        if is_address(address):
            table, store = scratch / "table", open_store(address)
            fetch(store, look_up(store, {address: name}, report)[0], table, lambda read: None)
        elif not table.is_file():
            raise DataError(f"{table}: not found; set dataset.path to a table of addresses, or to images")
        names = read_addresses(table, name, address)
        store = open_store(next(iter(names)))
        changes = mirror.synchronize(store, look_up(store, names, report), report)
        with atomic_file(mirror.files / name) as partial:
            shutil.copyfile(table, partial)
    return changes
