"""A project of one's own with a model of a folder."""

import shutil

import pytest
from tests import inbox_project


@pytest.fixture(scope="session")
def modeled_folder(prepare_once):
    return prepare_once("inbox_project", inbox_project.fill)


@pytest.fixture
def root(modeled_folder, tmp_path, monkeypatch):
    shutil.copytree(modeled_folder, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"
