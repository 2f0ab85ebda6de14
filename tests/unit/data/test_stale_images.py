"""A command that is run by hand after a change of settings warns that the images were made with the old ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import QUICK, Darkroom

from darkroom.config import Config
from darkroom.config.settings import Dataset, Preprocess
from darkroom.data.cache import COLUMNS, NAMES, DatasetCard
from darkroom.data.stale_images import changed_folder, changed_settings


def card(**preprocess: object) -> DatasetCard:
    """That of images preprocessed with the default settings, but for ``preprocess``."""
    made = Preprocess().model_dump(mode="json", exclude={"audit"}) | preprocess
    settings = {"dataset": {"name": "digits", "on_broken": "stop"}, "preprocess": made}
    sizes = {"train": 1, "val": 1, "test": 1}
    return DatasetCard("digits", ("a", "b"), (1, 8, 8), (0.5,), (0.3,), sizes, settings, "0" * 64)


def test_equal_settings_and_those_that_change_no_image_are_not_told_of() -> None:
    config = Config()
    assert changed_settings(config, card()) is None
    config = Config(preprocess=Preprocess(audit="full", image_size=(28, 28)))
    assert changed_settings(config, card(image_size=[28, 28])) is None
    # Of another version: one key is unknown now, another was then.
    older = card(gone=1)
    del older.settings["preprocess"]["bands"]
    assert changed_settings(Config(), older) is None


def test_the_first_that_differ_are_named_with_the_command_that_helps() -> None:
    assert changed_settings(Config(), card(seed=3)) == (
        "the images were preprocessed with other settings: preprocess.seed was 3 and is 0; run `dvc repro preprocess`"
    )
    said = changed_settings(Config(), card(image_size=[28, 28], channels=1, fit="crop", seed=3, val_fraction=0.3))
    assert said
    assert "preprocess.image_size was [28, 28] and is empty" in said
    assert ", and 2 more; run" in said


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ("report", "stop", None),
        ("stop", "report", None),
        ("drop-train", "drop-train", None),
        ("stop", "drop-train", "dataset.on_leak was report and is drop-train"),
        ("drop-train", "report", "dataset.on_leak was drop-train and is report"),
    ],
)
def test_images_that_were_dropped_or_are_to_be_are_told_of(then: str, now: str, said: str | None) -> None:
    made = card()
    made.settings["dataset"] = Dataset(on_leak=then).recorded
    found = changed_settings(Config(dataset=Dataset(on_leak=now)), made)
    assert found == (said and f"the images were preprocessed with other settings: {said}; run `dvc repro preprocess`")


def files(directory: Path, *names: str) -> None:
    """The list of a cache whose images are files of these names."""
    rows = [("train", str(row), name, "a", "0" * 32) for row, name in enumerate(names)]
    (directory / NAMES).write_text("\n".join(map(",".join, [COLUMNS, *rows])) + "\n")


def pointed_to(path: object, name: str = "folder") -> Config:
    return Config(dataset=Dataset(name=name, path=str(path)))


def test_a_path_to_other_images_is_told_with_one_that_is_not_there(tmp_path: Path) -> None:
    files(tmp_path, "train/cats/1.jpg", "train/cats/2.jpg")
    (tmp_path / "other" / "cats").mkdir(parents=True)
    assert changed_folder(pointed_to(tmp_path / "other"), tmp_path) == (
        f"the images were preprocessed from another folder: {tmp_path / 'other'} has no train/cats/1.jpg; "
        "run `dvc repro preprocess`"
    )


def test_a_path_is_not_doubted_where_one_of_the_first_images_is(tmp_path: Path) -> None:
    files(tmp_path, "cats/1.jpg", "cats/2.jpg")
    (tmp_path / "moved" / "cats").mkdir(parents=True)
    (tmp_path / "moved" / "cats" / "2.jpg").touch()
    assert changed_folder(pointed_to(tmp_path / "moved"), tmp_path) is None


def test_a_path_is_not_doubted_where_it_cannot_be_judged(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other.zip").touch()
    assert changed_folder(pointed_to(tmp_path / "other"), tmp_path) is None  # there is no list
    files(tmp_path, "cats/1.jpg")
    for path in (tmp_path / "away", tmp_path / "other.zip", "s3://bucket/cats"):
        assert changed_folder(pointed_to(path), tmp_path) is None
    assert changed_folder(pointed_to(tmp_path / "other", "digits"), tmp_path) is None
    files(tmp_path, "", "")  # images without files
    assert changed_folder(pointed_to(tmp_path / "other"), tmp_path) is None
    files(tmp_path, "cats/\u00e9.jpg")  # which the disk may hold in two characters
    assert changed_folder(pointed_to(tmp_path / "other"), tmp_path) is None
    files(tmp_path, f"{'long' * 100}.jpg")  # no name that a disk can hold
    assert changed_folder(pointed_to(tmp_path / "other"), tmp_path) is None
    (tmp_path / NAMES).write_text("a,b\n1,2\n")
    assert changed_folder(pointed_to(tmp_path / "other"), tmp_path) is None


def test_each_command_that_reads_the_images_says_it_once(
    evaluated: Path, write_params: Callable[..., None], darkroom: Darkroom
) -> None:
    write_params(
        evaluated, **QUICK | {"preprocess__seed": 3, "audit__folds": 2, "audit__epochs": 1, "search__trials": 1}
    )
    for command in ("lr-find", "audit", "search", "train", "evaluate"):
        code, _, err = darkroom(command)
        assert code == 0, err
        assert err.count("preprocess.seed was 0 and is 3; run `dvc repro preprocess`") == 1, (command, err)
