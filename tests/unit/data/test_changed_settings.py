"""A command that is run by hand after a change of settings warns that the images were made with the old ones."""

from collections.abc import Callable
from pathlib import Path

from tests.conftest import QUICK, Darkroom

from darkroom.config import Config
from darkroom.config.settings import Preprocess
from darkroom.data.cache import DatasetCard
from darkroom.data.changed_settings import changed_settings


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
