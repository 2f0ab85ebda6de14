"""Predictions for image files go through the transform of the preprocessing."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.unit.images.image_files import read

from darkroom.config import load
from darkroom.config.settings import Model, Serve, Tracking
from darkroom.data.batches import read_split
from darkroom.data.cache import DatasetCard
from darkroom.errors import CacheError, DataError, ModelError, TrackingError
from darkroom.evaluation.prediction_sets import ordered_labels
from darkroom.evaluation.reference import Reference
from darkroom.models.classifier import build_classifier
from darkroom.prediction.predictor import Predictor
from darkroom.promotion.registry import MODEL_FILE, register
from darkroom.tracking.runs import REFERENCE_TAG, WEIGHTS_TAG
from darkroom.tracking.tracker import connect
from darkroom.workspace import Workspace

CLASSES = ("dark", "bright")


def brightness(images):
    """Logits that say how bright a picture is."""
    light = images.float().mean((1, 2, 3)) / 255
    return torch.stack([1 - light, light], 1) * 10


@pytest.fixture
def predictor():
    return Predictor(brightness, CLASSES, (3, 4, 6), "1")


def test_the_most_probable_class_comes_first_and_probabilities_sum_to_one(predictor, tmp_path):
    paths = []
    for name, shade in (("night", 20), ("day", 240)):
        paths.append(tmp_path / f"{name}.png")
        Image.new("L", (50, 40), shade).save(paths[-1])
    found = predictor.predict(paths)
    assert [each.label for each in found] == ["dark", "bright"]
    assert [each.image for each in found] == [str(path) for path in paths]
    for each in found:
        values = list(each.probabilities.values())
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1)


def test_the_model_sees_what_preprocessing_would_have_made(predictor, tmp_path):
    path = tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (33, 57, 4), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    seen = []
    predictor.model = lambda images: (seen.append(images), brightness(images))[1]
    predictor.predict([path])
    assert torch.equal(seen[0][0], torch.from_numpy(read(path, 3, (4, 6))))


@pytest.mark.parametrize(
    ("content", "pattern"), [(None, "cannot be read"), (b"text", "cannot be decoded .*not an image")]
)
def test_a_file_that_is_no_image_is_refused_by_name(predictor, tmp_path, content, pattern):
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.png: {pattern}"):
        predictor.predict([path])


def test_a_champion_that_another_program_made_is_refused(project, tmp_path):
    import mlflow

    project()
    store = connect(Tracking(), Workspace().spools)
    run_id = store.id_of(store.start("foreign", "train").key)
    with mlflow.start_run(run_id=run_id):
        mlflow.pytorch.log_model(
            torch.nn.Identity(), name="model", serialization_format="pt2",
            input_example=np.zeros((2, 3), np.float32), pip_requirements=["torch"],
        )  # fmt: skip
    register(
        store.client, "foreign", run_id=run_id, model_uri=store.model_uri(run_id),
        digests={WEIGHTS_TAG: "a"}, metrics={}, result="",
    )  # fmt: skip
    store.client.set_registered_model_alias("foreign", "champion", "1")
    with pytest.raises(TrackingError, match=r"version 1: has no tag darkroom\.fingerprint: another program"):
        Predictor.champion(store.client, "foreign", Serve())


# --- pictures that are negatives of the training images ------------------------------------------------


def stroke(background, foreground):
    """A gray picture with a line through its middle."""
    picture = np.full((40, 50), background, dtype=np.uint8)
    picture[15:25, 10:40] = foreground
    return Image.fromarray(picture)


REFERENCE = Reference(2.0, 0.9, (0.5, 0.5), -8.0, 0.01, 100)


def seen_by(ground, picture, tmp_path, channels=1, mean=None, **options):
    """What the model is shown of a picture, and the prediction."""
    seen = []
    predictor = Predictor(
        lambda images: (seen.append(images), brightness(images))[1], CLASSES, (channels, 20, 25), "1", mean,
        replace(REFERENCE, ground=ground),
    )  # fmt: skip
    picture.save(tmp_path / "picture.png")
    (found,) = predictor.predict([tmp_path / "picture.png"], **options)
    return seen[0][0], found


@pytest.mark.parametrize(
    ("ground", "background", "inverted"),
    [
        ("dark", 250, True),  # light on dark is known, dark on light was brought
        ("dark", 5, False),
        ("light", 5, True),
        ("light", 250, False),
    ],
)
def test_a_picture_is_shown_with_the_background_of_the_training_images(tmp_path, ground, background, inverted):
    picture = stroke(background, 255 - background)
    plain, _ = seen_by(None, picture, tmp_path)
    shown, found = seen_by(ground, picture, tmp_path)
    assert found.inverted is inverted
    assert torch.equal(shown, 255 - plain if inverted else plain)


@pytest.mark.parametrize("ground", ["mixed", None])
@pytest.mark.parametrize("mean", [0.05, 0.95])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_brightness_of_the_training_images_alone_inverts_nothing(tmp_path, ground, mean, channels):
    for background in (5, 250):
        _, found = seen_by(ground, stroke(background, 255 - background), tmp_path, channels, (mean,) * channels)
        assert not found.inverted


def test_a_color_picture_is_inverted_for_a_gray_model(tmp_path):
    shown, found = seen_by("dark", stroke(250, 5).convert("RGB"), tmp_path)
    assert found.inverted
    assert shown.shape == (1, 20, 25)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_person_may_decide(tmp_path, wanted):
    for background in (5, 250):
        _, found = seen_by("dark", stroke(background, 128), tmp_path, invert=wanted)
        assert found.inverted is wanted


def test_each_picture_is_judged_by_itself(tmp_path):
    predictor = Predictor(brightness, CLASSES, (1, 20, 25), "1", reference=replace(REFERENCE, ground="dark"))
    paths = []
    for background in (250, 5):
        paths.append(tmp_path / f"{background}.png")
        stroke(background, 255 - background).save(paths[-1])
    assert [found.inverted for found in predictor.predict(paths)] == [True, False]


# --- what the evaluation has left ----------------------------------------------------------------------


def test_probabilities_are_calibrated_and_strange_pictures_named(tmp_path):
    paths = []
    for shade in (128, 255):
        paths.append(tmp_path / f"{shade}.png")
        Image.new("L", (6, 4), shade).save(paths[-1])
    raw = Predictor(brightness, CLASSES, (1, 4, 6), "1").predict(paths)
    found = Predictor(brightness, CLASSES, (1, 4, 6), "1", reference=REFERENCE).predict(paths)
    assert [each.unlike_training for each in raw] == [False, False]
    # The logits of the gray one are about 5 and 5, those of the white one 0 and 10.
    assert [each.unlike_training for each in found] == [True, False]
    odds = [each.probabilities["bright"] / each.probabilities["dark"] for each in (raw[1], found[1])]
    assert odds == pytest.approx([np.exp(10), np.exp(5)], rel=1e-4)


@pytest.fixture
def crowned(registered, monkeypatch):
    """The client of a store in which the project's model is champion, and the files of its evaluation there."""
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # as the command line does
    client, version = registered
    model = client.get_logged_model(str(version.source).removeprefix("models:/"))
    return client, Path(model.artifact_location.removeprefix("file://")) / "evaluate"


def test_the_champion_comes_with_its_reference(crowned, evaluated, capsys):
    predictor = Predictor.champion(crowned[0], "darkroom-digits", Serve())
    expected = Reference.read(evaluated / "reports" / "evaluate" / "reference.json")
    assert predictor.temperature == expected.temperature
    assert predictor.energy_threshold == expected.energy_threshold
    assert predictor.transform.ground == expected.ground == "dark"  # as all digits
    assert predictor.version == "1"
    capsys.readouterr()
    Predictor.champion(crowned[0], "darkroom-digits", Serve())
    assert capsys.readouterr().err == ""


def test_the_test_images_have_the_sets_that_predictions_csv_says(crowned, evaluated):
    predictor = Predictor.champion(crowned[0], "darkroom-digits", Serve())
    directory = Workspace().processed("digits")
    images = read_split(directory, DatasetCard.read(directory), "test").images.numpy()
    probabilities, _, members = predictor.answer(images)
    with (evaluated / "reports/evaluate/predictions.csv").open(encoding="utf-8") as opened:
        recorded = [json.loads(row["prediction_set"]) for row in csv.DictReader(opened)]
    assert recorded == [ordered_labels(*each, predictor.classes) for each in zip(members, probabilities, strict=True)]


def test_another_coverage_needs_no_other_evaluation_and_too_high_a_one_is_warned_of(crowned, capsys):
    client, _ = crowned
    images = np.random.default_rng(0).integers(0, 256, (200, 1, 8, 8), dtype=np.uint8)
    low, high = (
        Predictor.champion(client, "darkroom-digits", Serve(coverage=coverage)).answer(images)[2]
        for coverage in (0.6, 0.98)
    )
    assert low.sum() < high.sum()
    capsys.readouterr()
    predictor = Predictor.champion(client, "darkroom-digits", Serve(coverage=0.999))
    assert predictor.sets is None
    assert predictor.answer(images)[2] is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "warning: darkroom-digits version 1: no prediction sets: coverage 0.999 takes 999 validation"
    )


def test_a_champion_that_was_changed_in_the_store_does_not_answer(crowned):
    client, report = crowned
    path = report.parent / MODEL_FILE
    torch.export.save(torch.export.load(path), path, extra_files={"note": "another file"})
    with pytest.raises(TrackingError, match=r"^version 1: model\.pt2 is not the one that was registered"):
        Predictor.champion(client, "darkroom-digits", Serve())


def test_a_champion_without_a_reference_answers_with_a_warning(crowned, capsys):
    client, report = crowned
    (report / "reference.json").unlink()
    with pytest.raises(TrackingError, match=r"version 1: its reference\.json is missing from the store"):
        Predictor.champion(client, "darkroom-digits", Serve())  # as it would answer without being calibrated
    client.delete_model_version_tag("darkroom-digits", "1", REFERENCE_TAG)
    capsys.readouterr()
    predictor = Predictor.champion(client, "darkroom-digits", Serve())
    assert predictor.temperature == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: darkroom-digits version 1: was registered without reference.json; its")


def test_a_damaged_reference_is_refused_by_name(crowned):
    client, report = crowned
    (report / "reference.json").write_text("{}")
    with pytest.raises(TrackingError, match=r"reference\.json is not the one that was registered"):
        Predictor.champion(client, "darkroom-digits", Serve())
    client.delete_model_version_tag("darkroom-digits", "1", REFERENCE_TAG)
    with pytest.raises(ModelError, match=r"reference\.json: format version None, this release reads version 1"):
        Predictor.champion(client, "darkroom-digits", Serve())
    REFERENCE.write(report / "reference.json")
    with pytest.raises(ModelError, match=r"reference\.json: of a model of 2 classes, but this one has 10; run `"):
        Predictor.champion(client, "darkroom-digits", Serve())


# --- a file of weights ---------------------------------------------------------------------------------


@pytest.fixture
def exported(evaluated, tmp_path):
    """A project with preprocessed digits and a state_dict of an mlp that was not trained."""
    config = load(Workspace().params)
    card = DatasetCard.read(Workspace().processed("digits"))
    torch.manual_seed(0)
    classifier = build_classifier(config.model, card).eval()
    torch.save(classifier.state_dict(), tmp_path / "mlp.pth")
    return classifier, tmp_path / "mlp.pth", config


def test_a_file_of_weights_answers_like_the_model_it_came_from(exported, tmp_path):
    classifier, path, config = exported
    stroke(250, 5).save(tmp_path / "picture.png")
    predictor = Predictor.from_weights(path, "mlp", config, Workspace())
    (found,) = predictor.predict([tmp_path / "picture.png"])
    image = torch.from_numpy(read(tmp_path / "picture.png", 1, (8, 8), fit="pad").copy())[None]
    with torch.no_grad():
        expected = classifier(image).softmax(1)[0]
    assert not found.inverted  # weights alone do not tell what ground the training images lie on
    assert [found.probabilities[str(digit)] for digit in range(10)] == pytest.approx(expected.tolist())


def test_another_architecture_than_params_yaml_names_takes_its_own_defaults(exported, tmp_path):
    _, _, config = exported
    card = DatasetCard.read(Workspace().processed("digits"))
    torch.save(build_classifier(Model(name="simple-cnn"), card).state_dict(), tmp_path / "cnn.pth")
    predictor = Predictor.from_weights(tmp_path / "cnn.pth", "simple-cnn", config, Workspace())
    stroke(250, 5).save(tmp_path / "picture.png")
    assert len(predictor.predict([tmp_path / "picture.png"])[0].probabilities) == 10


def test_weights_without_a_card_need_the_architectures_name(exported):
    _, path, config = exported
    with pytest.raises(ModelError, match=r"mlp\.pth: has no card beside it; name its architecture with --model \("):
        Predictor.from_weights(path, None, config, Workspace())


def test_weights_of_other_shapes_are_refused_by_the_first_that_differs(exported):
    _, path, config = exported
    other = config.with_settings({"model.hidden": [9]})
    pattern = r"mlp\.pth: network\.1\.weight has shape \[8, 64\], but mlp needs \[9, 64\]; give the model the settings"
    with pytest.raises(ModelError, match=pattern):
        Predictor.from_weights(path, "mlp", other, Workspace())


def test_weights_of_another_architecture_are_refused(exported):
    _, path, config = exported
    with pytest.raises(ModelError, match=r"mlp\.pth: no weights for network\.0\.weight, which simple-cnn has"):
        Predictor.from_weights(path, "simple-cnn", config, Workspace())


def test_weights_of_a_larger_model_are_refused(exported):
    _, path, config = exported
    weights = torch.load(path, weights_only=True)
    torch.save(weights | {"network.9.weight": torch.ones(1)}, path)
    with pytest.raises(ModelError, match=r"mlp\.pth: has weights for network\.9\.weight, which mlp lacks"):
        Predictor.from_weights(path, "mlp", config, Workspace())


def test_without_a_card_the_dataset_must_have_been_preprocessed(exported):
    _, path, config = exported
    other = config.with_settings({"dataset.name": "mnist"})
    with pytest.raises(CacheError, match="run `darkroom preprocess`"):
        Predictor.from_weights(path, "mlp", other, Workspace())
