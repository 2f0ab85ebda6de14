"""Predictions for image files go through the transform of the preprocessing."""

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.data.images import read
from darkroom.errors import DataError, TrackingError
from darkroom.promotion import register
from darkroom.serving.predictor import Predictor
from darkroom.settings import Tracking
from darkroom.tracking import connect

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
    store = connect(Tracking())
    with store.start("foreign", "train") as run, mlflow.start_run(run_id=run.id):
        mlflow.pytorch.log_model(
            torch.nn.Identity(), name="model", serialization_format="pt2",
            input_example=np.zeros((2, 3), np.float32), pip_requirements=["torch"],
        )  # fmt: skip
    register(
        store.client, "foreign", run_id=run.id, model_uri=store.model_uri(run.id), weights_sha256="a",
        fingerprint="f", metrics={},
    )  # fmt: skip
    with pytest.raises(TrackingError, match="was not made by darkroom: it lacks its class names"):
        Predictor.champion(store.client, "foreign")
