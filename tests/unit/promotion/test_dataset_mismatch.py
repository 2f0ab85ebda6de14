"""Models of other data under one name, and of the same data under two, are told in a line with what there is to do."""

import csv
import json
from dataclasses import replace

import pytest
from tests.conftest import QUICK

from darkroom.config import load
from darkroom.data.cache import DatasetCard
from darkroom.promotion.dataset_mismatch import mismatch_notice, other_name_notice
from darkroom.tracking.runs import FINGERPRINT_TAG, PREDICTIONS_TAG
from darkroom.workspace import Workspace

NAME = "darkroom-digits"


@pytest.fixture
def told(registered, evaluated):
    """What is said of the champion, version 1, where a newer model's data and predictions are these."""
    client, _ = registered
    card = DatasetCard.read(Workspace().processed("digits"))

    def told(card=card, predictions=evaluated / "reports" / "evaluate" / "predictions.csv"):
        return mismatch_notice(load(evaluated / "params.yaml"), client, card, predictions)

    told.client, told.card = client, card
    return told


@pytest.fixture
def other_data(told):
    told.client.set_model_version_tag(NAME, "1", FINGERPRINT_TAG, "e" * 64)


def with_predictions(evaluated, tmp_path, change):
    """The predictions with each row changed."""
    with (evaluated / "reports" / "evaluate" / "predictions.csv").open(newline="") as opened:
        rows = [change(row) for row in csv.DictReader(opened)]
    path = tmp_path / "changed.csv"
    with path.open("w", newline="") as opened:
        table = csv.DictWriter(opened, rows[0])
        table.writeheader()
        table.writerows(rows)
    return path


def test_nothing_is_said_of_a_champion_of_the_same_data(told):
    assert told() is None


def test_nothing_is_said_without_a_champion(told):
    told.client.delete_registered_model_alias(NAME, "champion")

    assert told(replace(told.card, fingerprint="d" * 64)) is None


@pytest.mark.usefixtures("other_data")
def test_the_images_in_both_and_what_to_do_are_told(told):
    assert told() == (
        "version 1 stays champion, a model of other data: 360 test images are in both test splits (360 and 360 "
        "images); `darkroom promote` compares the two on these, `darkroom compare` shows both, `darkroom "
        "data-diff` shows what changed"
    )


@pytest.mark.usefixtures("other_data")
def test_classes_that_came_and_went_are_named(told, evaluated, tmp_path):
    def nine_is_neun(row):
        return {key: "neun" if key in ("actual", "predicted") and row[key] == "9" else row[key] for key in row}

    classes = (*told.card.classes[:-1], "neun")
    said = told(replace(told.card, classes=classes), with_predictions(evaluated, tmp_path, nine_is_neun))

    assert "a model of other data: classes: neun came; 9 went; 324 test images are in both test splits" in said
    assert "less 36 of another class in each" in said


@pytest.mark.usefixtures("other_data")
def test_too_few_images_in_both_are_told_with_how_many_are_needed(told, evaluated, tmp_path):
    other = with_predictions(evaluated, tmp_path, lambda row: row | {"digest": row["digest"][::-1]})

    said = told(predictions=other)

    assert "0 test images are in both test splits (360 and 360 images), fewer than the 5 that the gate needs" in said
    assert "`darkroom promote --force --reason …`" in said
    assert "`darkroom data-diff` shows what changed" in said


@pytest.mark.usefixtures("other_data")
def test_a_model_that_cannot_be_compared_is_told_with_the_reason(told, evaluated, tmp_path):
    earlier = with_predictions(evaluated, tmp_path, lambda row: {key: row[key] for key in row if key != "digest"})
    assert "cannot be compared with the new one (the contents of their test images were not" in told(
        predictions=earlier
    )

    told.client.set_model_version_tag(NAME, "1", PREDICTIONS_TAG, "0" * 64)
    assert "cannot be compared with the new one (version 1: predictions.csv is not the one that" in told()


def test_the_digests_of_the_test_split_stand_with_the_predictions(evaluated):
    with (evaluated / "data" / "processed" / "digits" / "files.csv").open(newline="") as opened:
        expected = [row["digest"] for row in csv.DictReader(opened) if row["split"] == "test"]
    with (evaluated / "reports" / "evaluate" / "predictions.csv").open(newline="") as opened:
        assert [row["digest"] for row in csv.DictReader(opened)] == expected
    assert len(expected) == json.loads((evaluated / "models" / "model.json").read_text())["dataset"]["sizes"]["test"]


@pytest.mark.usefixtures("registered")
def test_a_dataset_that_changed_is_told_by_register_and_its_model_meets_the_gate(darkroom, project):
    def run(*arguments):
        code, output, errors = darkroom(*arguments)
        assert code == 0, errors
        return output + errors

    project(**QUICK, preprocess__val_fraction=0.2)  # another training set, with the same test images
    for stage in ("download", "preprocess", "search", "train", "evaluate"):
        run(stage)
    assert "version 1 stays champion, a model of other data: 360 test images are in both" in run("register")
    assert "against version 1" in darkroom("promote", "--dry-run", "2")[1]


@pytest.mark.parametrize(
    ("renamed", "expected"),
    [
        ({}, None),
        ({"tracking__registered_model": "pets"}, None),
        ({"dataset__name": "folder", "dataset__path": "other/pets"}, "darkroom-digits has models of the same images"),
    ],
    ids=["the same name", "a name that was chosen", "a folder with another name"],
)
def test_a_name_that_differs_from_that_of_models_of_the_same_images_is_told(told, evaluated, renamed, expected):
    config = load(evaluated / "params.yaml").with_settings(
        {name.replace("__", "."): value for name, value in renamed.items()}
    )

    found = other_name_notice(config, told.client, told.card)

    assert found == expected or (expected and found.startswith(expected))
    assert not found or found.endswith(
        "set tracking.registered_model to darkroom-digits if the folder has only another name now"
    )


def test_a_name_for_other_images_is_no_reason_to_say_anything(told, evaluated):
    config = load(evaluated / "params.yaml").with_settings({"dataset.name": "folder", "dataset.path": "pets"})

    assert other_name_notice(config, told.client, replace(told.card, fingerprint="d" * 64)) is None
