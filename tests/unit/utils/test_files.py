"""What stages hand to each other is written whole or not at all."""

import hashlib
import json
import stat

import pytest

from darkroom.errors import CacheError, ModelError
from darkroom.utils.files import atomic_directory, atomic_file, check_format, digest, read_json, sha256, write_json


class InterruptionError(Exception):
    pass


def write_half_a_file(path, interruption):
    with atomic_file(path) as partial:
        partial.write_text("half")
        raise interruption


def write_half_a_directory(path, interruption):
    with atomic_directory(path) as partial:
        (partial / "new.txt").write_text("half")
        raise interruption


def test_a_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with atomic_file(target) as partial:
        partial.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_a_file_is_readable_by_others(tmp_path):
    with atomic_file(tmp_path / "file.txt") as partial:
        partial.write_text("new")
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o644


@pytest.mark.parametrize("interruption", [InterruptionError, KeyboardInterrupt])
def test_a_file_keeps_its_content_if_the_block_fails(tmp_path, interruption):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(interruption):
        write_half_a_file(target, interruption)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "deep" / "directory"
    target.mkdir(parents=True)
    (target / "old.txt").write_text("old")
    with atomic_directory(target) as partial:
        (partial / "new.txt").write_text("new")
        assert [path.name for path in target.iterdir()] == ["old.txt"]
    assert [path.name for path in target.iterdir()] == ["new.txt"]
    assert list(target.parent.iterdir()) == [target]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


@pytest.mark.parametrize("interruption", [InterruptionError, KeyboardInterrupt])
def test_a_directory_keeps_its_files_if_the_block_fails(tmp_path, interruption):
    target = tmp_path / "directory"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with pytest.raises(interruption):
        write_half_a_directory(target, interruption)
    assert [path.name for path in target.iterdir()] == ["old.txt"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_directory_that_was_not_there_is_not_there_after_a_failure(tmp_path):
    with pytest.raises(InterruptionError):
        write_half_a_directory(tmp_path / "directory", InterruptionError)
    assert list(tmp_path.iterdir()) == []


def test_json_is_read_as_it_was_written(tmp_path):
    value = {"name": "Überzug", "numbers": [1, 2.5, None], "nested": {"yes": True}}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json", error=CacheError, made_by="darkroom x") == value
    text = (tmp_path / "value.json").read_text(encoding="utf-8")
    assert "Überzug" in text
    assert text.endswith("}\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_without_a_number_for_it_is_refused_and_nothing_written(tmp_path, number):
    path = tmp_path / "value.json"
    write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"loss": number})
    assert json.loads(path.read_text()) == {"loss": 1.0}


def test_missing_json_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(CacheError, match=r"value\.json: not found; run `darkroom preprocess` first"):
        read_json(tmp_path / "value.json", error=CacheError, made_by="darkroom preprocess")


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": ', b"\xff\xfe\x00", b"{'a': 1}"])
def test_damaged_json_names_the_command_that_makes_it_anew(tmp_path, content):
    (tmp_path / "value.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"value\.json: damaged \(.+\); run `darkroom train` again"):
        read_json(tmp_path / "value.json", error=ModelError, made_by="darkroom train")


@pytest.mark.parametrize("content", ["[]", "null", "3", '"text"'])
def test_json_that_is_not_an_object_is_refused(tmp_path, content):
    (tmp_path / "value.json").write_text(content)
    with pytest.raises(CacheError, match="expected a JSON object; run `darkroom train` again"):
        read_json(tmp_path / "value.json", error=CacheError, made_by="darkroom train")


@pytest.mark.parametrize("found", [{"format_version": 2}, {"format_version": "1"}, {}])
def test_another_format_version_is_refused(tmp_path, found):
    with pytest.raises(CacheError, match=r"format version .+, this release reads version 1; run `darkroom x` again"):
        check_format(found, 1, tmp_path, error=CacheError, made_by="darkroom x")


def test_the_format_version_of_this_release_is_read(tmp_path):
    assert check_format({"format_version": 1}, 1, tmp_path, error=CacheError, made_by="darkroom x") is None


def test_sha256_is_that_of_the_content(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})


@pytest.mark.parametrize("other", [{"a": 2, "b": [1, 2]}, {"a": 1, "b": [2, 1]}, {"a": 1}])
def test_a_digest_depends_on_every_value(other):
    assert digest({"a": 1, "b": [1, 2]}) != digest(other)
