"""Archives and tables of addresses."""

import io
import zipfile
from pathlib import Path

import pytest
from tests.unit.datasets.remote.birds import FILES, NAMES

from darkroom.errors import DataError


def test_an_archive_is_one_file(server, fetched):
    opened = io.BytesIO()
    with zipfile.ZipFile(opened, "w") as archive:
        for name, content in NAMES.items():
            archive.writestr(name, content)
    server.put({"Birds.ZIP": opened.getvalue()})

    local, content, _ = fetched("s3://photos/Birds.ZIP")

    assert content == opened.getvalue()
    assert Path(local.path).name == "Birds.ZIP"


@pytest.mark.parametrize("place", ["remote", "local"])
def test_a_table_of_addresses_brings_what_it_names(server, fetched, tmp_path, place):
    named = [f"birds/{label}/{number}.png" for label in ("owl", "wren") for number in range(5)]
    table = "\n".join(["file,label", *(f"s3://photos/{key},{key.split('/')[1]}" for key in named)]).encode()
    if place == "remote":
        server.put({"tables/labels.csv": table})
        path = "s3://photos/tables/labels.csv"
    else:
        path = str(tmp_path / "labels.csv")
        Path(path).write_bytes(table)

    local, files, _ = fetched(path)

    assert local.labels == "labels.csv"
    assert files == {f"photos/{key}": FILES[key] for key in named} | {"labels.csv": table}


def test_rows_without_a_scheme_are_meant_from_the_table(server, fetched):
    server.put({"birds/labels.csv": b"file,label\nowl/1.png,owl\n./wren/2.png,wren\n"})
    assert fetched("s3://photos/birds/labels.csv")[1].keys() == {"owl/1.png", "wren/2.png", "labels.csv"}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("s3://photos/birds/owl/1.png,a\ns3://photos/none.png,b", r"s3://photos/none\.png: not found"),
        ("s3://photos/a.png,a\nhttps://host/b.png,b", "addresses of several kinds"),
        ("s3://photos/a.png,a\nftp://host/b.png,b", r"labels\.csv, line 3: ftp://host/b\.png: expected s3://"),
        ("s3://photos/a.png,a\n../b.png,b", r"labels\.csv, line 3: .*holds '\.' or '\.\.'"),
        ("https://me:hidden@host/a.png,a\n", r"labels\.csv, line 2: https://…host/a\.png: holds a user or a password"),
        ("https://host/a.png?sig=hidden,a\n", r"labels\.csv, line 2: https://host/a\.png…: ends with a query"),
    ],
)
def test_a_table_that_names_what_cannot_be_read_is_refused(server, fetched, rows, reason):
    server.put({"tables/labels.csv": f"file,label\n{rows}".encode()})
    with pytest.raises(DataError, match=reason) as refusal:
        fetched("s3://photos/tables/labels.csv")
    assert "hidden" not in str(refusal.value)


def test_a_table_of_plain_names_is_told_where_it_belongs(tmp_path, fetched):
    (tmp_path / "labels.csv").write_text("file,label\nowl/1.png,owl\n")
    with pytest.raises(DataError, match=r"line 2: owl/1\.png is no address.*dataset\.labels to the table"):
        fetched(str(tmp_path / "labels.csv"))


def test_a_path_on_this_machine_is_left_as_it_is(tmp_path, fetched):
    (tmp_path / "labels.csv").mkdir()  # a folder, whatever its name
    for path in (str(tmp_path), str(tmp_path / "labels.csv")):
        local, _, said = fetched(path)
        assert (local.path, said) == (path, "")
