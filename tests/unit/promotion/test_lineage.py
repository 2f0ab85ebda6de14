"""A model that was made from other data than params.yaml names is not taken for one of these data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from darkroom.config import load
from darkroom.promotion.lineage import other_data
from darkroom.workspace import Workspace

LOCK = """
schema: '2.0'
stages:
  download:
    params:
      params.yaml:
        dataset.name: {name}
        dataset.path: {path}
    outs:
    - {{path: data/raw/folder, md5: {raw}}}
  preprocess:
    deps:
    - {{path: data/raw/folder, md5: a}}
    outs:
    - {{path: data/processed/folder, md5: {processed}}}
  train:
    deps:
    - {{path: data/processed/folder, md5: b}}
"""
SAME = {"name": "folder", "path": "photos", "raw": "a", "processed": "b"}


@pytest.fixture
def told(project: Callable[..., Path]) -> Callable[..., str | None]:
    """The line for a lock file, given as text, where params.yaml names the folder ``photos``."""
    root = project(dataset__name="folder", dataset__path="photos")

    def tell(text: str) -> str | None:
        (root / "dvc.lock").write_text(text, encoding="utf-8")
        return other_data(load(root / "params.yaml"), Workspace(root))

    return tell


@pytest.mark.parametrize(
    ("change", "is_other"),
    [
        ({}, False),
        ({"path": "others"}, True),
        ({"name": "mnist"}, True),
        ({"raw": "c"}, True),
        ({"processed": "c"}, True),
    ],
    ids=["the same", "another folder", "another dataset", "downloaded since", "preprocessed since"],
)
def test_the_model_is_of_the_data_if_each_stage_took_what_the_one_before_has_made(
    told: Callable[..., str | None], change: dict[str, Any], is_other: bool
) -> None:
    line = told(LOCK.format(**SAME | change))

    assert (line is not None) == is_other
    if line:
        assert line.endswith("made from other data than params.yaml names (dataset.path photos); run `dvc repro`")


@pytest.mark.parametrize("other", ["photos/", "./photos", "{root}/photos", "link", "~/photos"])
def test_the_same_folder_by_another_name_is_no_other_data(
    told: Callable[..., str | None], other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path.cwd()
    (root / "photos").mkdir()
    (root / "link").symlink_to("photos")
    monkeypatch.setenv("HOME", str(root))

    assert told(LOCK.format(**SAME | {"path": other.format(root=root)})) is None


@pytest.mark.parametrize(
    "text", ["", "schema: '2.0'\n", "stages: {}\n", "stages: [1]\n", "{{{", "stages: {train: 1}\n"]
)
def test_a_lock_file_that_tells_nothing_is_no_reason_to_refuse(told: Callable[..., str | None], text: str) -> None:
    assert told(text) is None


def test_without_a_lock_file_nothing_is_known(project: Callable[..., Path]) -> None:
    root = project(dataset__name="folder", dataset__path="photos")
    assert other_data(load(root / "params.yaml"), Workspace(root)) is None


def test_such_a_model_is_not_registered(project: Callable[..., Path], darkroom: Callable[..., Any]) -> None:
    root = project(dataset__name="folder", dataset__path="photos")
    (root / "dvc.lock").write_text(LOCK.format(**SAME | {"path": "others"}), encoding="utf-8")

    code, output, errors = darkroom("register")

    assert (code, output) == (2, "")
    assert "made from other data than params.yaml names" in errors
