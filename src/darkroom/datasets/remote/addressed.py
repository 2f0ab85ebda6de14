"""A table of labels that names its images by their addresses."""

from pathlib import Path

from darkroom.config.addresses import check_address, is_address, without_scheme
from darkroom.datasets.names import with_slashes
from darkroom.datasets.tables import Table, read_table
from darkroom.errors import DataError


def read_addresses(path: Path, name: str, origin: str) -> dict[str, str]:
    """The addresses that the table at ``path``, called ``name``, holds, with the name of each file on this machine.

    A row without a scheme is meant from the folder of ``origin``, the address of the table. Files are named so that
    rows of the table find them. Raises DataError if a row names none, or one with a secret in it, or if addresses have
    different schemes.
    """
    table = read_table(path, name)
    base = origin.rpartition("/")[0] if is_address(origin) else None
    files = table.columns["file"]
    names = {}
    for text in files.unique().to_pylist():
        address, own = _locate(text, base)
        if not is_address(address):
            raise DataError(
                f"{_place(table, text)}: {text} is no address, such as s3://bucket/birds/1.png; for the names of files "
                "set dataset.path to where they are, and dataset.labels to the table"
            )
        try:
            check_address(address)
        except ValueError as problem:
            raise DataError(f"{_place(table, text)}: {problem}") from None
        names[address] = own
    schemes = {address.partition("://")[0]: address for address in names}
    if len(schemes) > 1:
        raise DataError(
            f"{name}: addresses of several kinds, such as {' and '.join(schemes.values())}; give one table each"
        )
    return names


def _locate(text: str, base: str | None) -> tuple[str, str]:
    """The address that a row's text means, and the name of the file on this machine."""
    if is_address(text):
        return text, without_scheme(text)
    relative = with_slashes(text)
    return f"{base}/{relative}" if base else relative, relative


def _place(table: Table, text: str) -> str:
    row = table.columns["file"].index(text).as_py()
    return f"{table.name}, {table.line(row)}"
