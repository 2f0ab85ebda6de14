"""What runs and logged models are called."""

from dataclasses import replace

import pytest

from darkroom.config import parse
from darkroom.data.cache import DatasetCard
from darkroom.tracking.names import model_name, search_name, training_name

DATA = DatasetCard("digits", ("a", "b"), (1, 8, 8), (0.3,), (0.4,), {"train": 4, "val": 2, "test": 2}, {}, "f" * 64)


def settings(name="simple-cnn", **sections):
    return {"model": {"name": name}, "train": {"epochs": 20}} | sections


def test_a_training_with_the_settings_of_a_fresh_project_is_named_by_architecture_dataset_and_epochs():
    config = parse({"search": {"trials": 0}}, where="")
    written = {section: getattr(config, section).model_dump(mode="json") for section in ("augment", "train")}
    model = {"name": "simple-cnn", "filters": [32, 64], "pooling": "each", "hidden": [128], "dropout": 0.25}
    preprocess = config.preprocess.model_dump(mode="json")
    found = training_name({**written, "model": model, "preprocess": preprocess}, DATA)
    assert found == "simple-cnn on digits, 20 epochs"


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("train", "lr", 0.0073715577, "lr 0.00737"),
        ("train", "batch_size", 128, "batch size 128"),
        ("train", "deterministic", True, "deterministic"),
        ("train", "patience", 3, "patience 3"),
        ("train", "start_from", "models:/darkroom-digits/3", "start from models:/darkroom-digits/3"),
        ("train", "seed", 1, "seed 1"),
        ("preprocess", "seed", 1, "split seed 1"),
        ("preprocess", "image_size", [32, 32], "image size 32-32"),
        ("augment", "flip", "random", "flip random"),
        ("augment", "flip_vertical", True, "flip vertical"),
        ("augment", "crop_scale", [0.25, 1.0], "crop scale 0.25-1.0"),
    ],
)
def test_what_differs_from_the_defaults_stands_in_the_name(section, key, value, expected):
    given = settings()
    given.setdefault(section, {})[key] = value
    assert training_name(given, DATA) == f"simple-cnn on digits, {expected}, 20 epochs"


def test_the_defaults_of_a_model_are_those_of_its_architecture():
    hidden = {"name": "mlp", "hidden": [256, 128], "dropout": 0.25}
    assert training_name(settings(model=hidden), DATA) == "mlp on digits, dropout 0.25, 20 epochs"


def test_a_name_does_not_grow_with_every_setting_that_is_changed():
    keys = ("rotate", "scale", "shear", "brightness", "contrast", "erasing", "mixup", "cutmix")
    changed = dict.fromkeys(keys, 0.5) | {"translate": 2}
    found = training_name(settings(augment=changed), DATA)
    assert found.count(", ") == 9
    assert "mixup 0.5, " not in found
    assert ", 2 more, 20 epochs" in found


def test_folders_of_images_are_told_apart_by_their_content():
    folders = [replace(DATA, name="folder", fingerprint=letter * 64) for letter in "ab"]
    assert [training_name(settings(), each) for each in folders] == [
        "simple-cnn on folder aaaaaaaa, 20 epochs",
        "simple-cnn on folder bbbbbbbb, 20 epochs",
    ]


def test_a_model_has_the_name_of_its_training_without_what_mlflow_refuses():
    given = settings(train={"epochs": 1, "lr": 0.002, "start_from": "models:/a/3"})
    assert model_name(given, DATA) == "simple-cnn on digits, start from models__a_3, lr 0_002, 1 epoch"


def test_a_search_is_named_by_what_it_searches():
    space = {"train": {"lr": {"low": 0.001, "high": 0.01}, "batch_size": {"choices": [32, 64]}}}
    config = parse({"search": {"space": space, "epochs": 5}}, where="")
    assert search_name(config, DATA) == "search simple-cnn on digits, 5 epochs: lr, batch size"
