"""A queued experiment trains on the images of the checkout that git does not track, and on no others."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.clone import IDENTITY

from darkroom.datasets.untracked import link_untracked

IMAGES = Path("data/folder")
COPY = ".dvc/tmp/exps/tmp12345678"


@pytest.fixture
def checkout(tmp_path):
    """A checkout with ignored images, and with a text among them that git tracks."""
    root = tmp_path / "checkout"
    write(root / ".gitignore", "/data/folder/*\n!/data/folder/README.md\n")
    write(root / IMAGES / "README.md", "as committed")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, *IDENTITY, "commit", "--quiet", "--message=start")
    write(root / IMAGES / "README.md", "edited since")
    for name in ("cat/1.png", "cat/2.png", "dog/deep/1.png", "labels.csv"):
        write(root / IMAGES / name, name)
    (root / IMAGES / "empty").mkdir()
    return root


@pytest.fixture
def copy(checkout, monkeypatch):
    """The copy that DVC makes for an experiment, which is where this process works."""
    root = checkout / COPY
    git(checkout, "clone", "--quiet", ".", str(root))
    monkeypatch.chdir(root)
    return root


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def git(root, *arguments):
    subprocess.run(["git", *arguments], cwd=root, check=True)


def below(directory):
    """The text of each file, as DVC finds them: it follows links to files, and none to directories."""
    return {
        str(Path(place, name).relative_to(directory)): Path(place, name).read_text()
        for place, _, names in os.walk(directory)
        for name in names
    }


def test_the_copy_has_the_images_of_the_checkout_and_its_own_text(copy, checkout):
    link_untracked(IMAGES)

    assert below(copy / IMAGES) == below(checkout / IMAGES) | {"README.md": "as committed"}
    assert (copy / IMAGES / "empty").is_dir()


def test_the_experiment_is_committed_without_them(copy):
    link_untracked(IMAGES)

    status = subprocess.run(["git", "status", "--porcelain"], cwd=copy, capture_output=True, text=True, check=True)
    assert status.stdout == ""


def test_linking_again_changes_nothing(copy):
    link_untracked(IMAGES)
    before = below(copy / IMAGES)

    link_untracked(IMAGES)

    assert below(copy / IMAGES) == before


def test_a_copy_with_images_of_its_own_is_left_as_it_is(copy):
    write(copy / IMAGES / "cat" / "7.PNG", "brought by DVC")

    link_untracked(IMAGES)

    assert set(below(copy / IMAGES)) == {"README.md", "cat/7.PNG"}


def test_images_that_git_has_come_from_git_alone(copy, checkout):
    git(checkout, "add", "--force", f"{IMAGES}/cat")

    link_untracked(IMAGES)

    assert set(below(copy / IMAGES)) == {"README.md", "dog/deep/1.png", "labels.csv"}


def test_a_directory_that_is_a_link_in_the_checkout_is_one_in_the_copy(copy, checkout, tmp_path):
    write(tmp_path / "disk" / "1.png", "elsewhere")
    (checkout / IMAGES / "bird").symlink_to(tmp_path / "disk", target_is_directory=True)

    link_untracked(IMAGES)

    assert (copy / IMAGES / "bird").is_symlink()
    assert (copy / IMAGES / "bird" / "1.png").read_text() == "elsewhere"


@pytest.mark.parametrize("path", ["nowhere", ".", ".gitignore", "../outside", "/nowhere"])
def test_there_may_be_nothing_to_link(copy, path):
    before = {*copy.rglob("*")}

    link_untracked(Path(path))

    assert {*copy.rglob("*")} == before


def test_the_checkout_itself_is_left_as_it_is(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    before = below(checkout / IMAGES)

    link_untracked(IMAGES)

    assert below(checkout / IMAGES) == before
    assert not [path for path in checkout.rglob("*") if path.is_symlink()]
