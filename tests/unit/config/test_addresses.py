"""Addresses of data: which are taken, and that no secret of one is shown."""

import pytest
from tests.unit.refusals import refused

from darkroom.config import ConfigError, parse
from darkroom.config.addresses import check_address, is_address, redact


@pytest.mark.parametrize(
    "address",
    ["s3://bucket", "s3://bucket/birds/", "gs://bucket/a b/c.zip", "https://host:8443/a.zip", "http://127.0.0.1/x.csv"],
)
def test_addresses_that_name_a_place_are_taken(address):
    assert is_address(address)
    check_address(address)
    assert redact(address) == address


@pytest.mark.parametrize("path", ["data/folder", "/data", "C:/birds", "C:\\birds", "s3:/bucket", "s3", "a b://c", ""])
def test_paths_are_no_addresses(path):
    assert not is_address(path)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("https://me:hidden@host/a.zip", r"https://…host/a\.zip: holds a user or a password"),
        ("https://hidden@host/a.zip", "holds a user or a password"),
        ("s3://hidden:hidden@bucket/birds", "holds a user or a password"),
        ("https://host/a.zip?X-Amz-Signature=hidden", r"https://host/a\.zip…: ends with a query or a fragment"),
        ("https://host/a.zip?", "ends with a query"),
        ("https://host/a.zip#hidden", "ends with a query or a fragment"),
        ("ftp://me:hidden@host/a", "expected s3://, gs:// or https://, got ftp://"),
        ("file:///tmp/birds", "got file://; a path on this machine has none"),
        ("s3:///birds", "names no bucket"),
        ("https:///birds", "names no host"),
        ("https://host:port/a.zip", "not an address"),
        ("s3://bucket/birds/../secret", r"holds '\.' or '\.\.'"),
    ],
)
def test_other_addresses_are_refused_without_what_may_be_a_secret(address, reason, project, darkroom):
    with pytest.raises(ValueError, match=reason) as refusal:
        check_address(address)
    assert "hidden" not in str(refusal.value)
    project(dataset__name="folder", dataset__path=address)

    result = darkroom("download")

    refused(result, rf"params\.yaml: dataset\.path: .*{reason}")
    assert "hidden" not in result[2]


@pytest.mark.parametrize("mirror", ["/mirror", "https://host:8443/mirror", "file:///mirror"])
def test_a_mirror_is_a_directory_or_an_address(mirror):
    assert parse({"dataset": {"mirror": mirror}}, where="").dataset.mirror == mirror


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("https://me:hidden@host/mirror", r"https://…host/mirror: holds a user or a password"),
        ("https://host/mirror?key=hidden", "ends with a query or a fragment"),
        ("s3://hidden@bucket/mirror", "expected https://, got s3://"),
    ],
)
def test_a_mirror_with_what_may_be_a_secret_is_refused(mirror, reason):
    with pytest.raises(ConfigError, match=rf"dataset\.mirror: .*{reason}") as refusal:
        parse({"dataset": {"mirror": mirror}}, where="")
    assert "hidden" not in str(refusal.value)
