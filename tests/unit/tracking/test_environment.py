"""Which code a run says it was made by."""

import subprocess

import pytest
from tests.clone import IDENTITY

from darkroom.tracking.environment import COMMIT_TAG, DIRTY_TAG, code_version


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project in a directory of a larger one, which is under git; this process works there."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "params.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("of the larger one")
    git(tmp_path, "init", "--quiet")
    monkeypatch.chdir(root)
    return root


def git(root, *arguments):
    return subprocess.run(["git", *IDENTITY, *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


def commit(root, *names):
    git(root, "add", *names)
    git(root, "commit", "--quiet", "--message=start")
    return git(root, "rev-parse", "HEAD").strip()


def test_the_commit_and_whether_the_project_differs_from_it(project):
    made = commit(project.parent, "--all")
    (project / "untracked.txt").write_text("")
    assert code_version() == {COMMIT_TAG: made, DIRTY_TAG: "false"}

    (project / "params.yaml").write_text("train: {}")
    assert code_version() == {COMMIT_TAG: made, DIRTY_TAG: "true"}


def test_what_differs_elsewhere_in_a_larger_repository_is_not_of_the_project(project):
    made = commit(project.parent, "--all")
    (project.parent / "notes.txt").write_text("edited")

    assert code_version() == {COMMIT_TAG: made, DIRTY_TAG: "false"}


def test_a_repository_that_does_not_hold_the_project_says_nothing_of_it(project):
    commit(project.parent, "notes.txt")

    assert code_version() == {}


def test_outside_of_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert code_version() == {}
