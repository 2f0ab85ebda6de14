"""The robustness of a model: what is measured, with which intervals, and how it is written and read."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.config.settings import Evaluate
from darkroom.data.batches import CPU, Split
from darkroom.errors import ModelError
from darkroom.evaluation.corrupted_images import measure_robustness
from darkroom.evaluation.corruptions import CORRUPTIONS, draw
from darkroom.evaluation.metrics import accuracy_interval
from darkroom.evaluation.robustness import Accuracy, CorruptionAccuracy, Robustness
from darkroom.evaluation.robustness_report import write_robustness
from darkroom.stages import evaluate


def brightness(images):
    """Logits of a model that takes bright images for class 1."""
    light = images.float().mean((1, 2, 3)) - 100
    return torch.stack([-light, light], 1)


@pytest.fixture(scope="module")
def split():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (11, 3, 9, 8), dtype=np.uint8) * generator.random((11, 1, 1, 1)) ** 0.3
    return Split(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(generator.integers(0, 2, 11)))


def correct(split):
    return (brightness(split.images).argmax(1) == split.labels).numpy()


def measured(split, batch_size=4):
    done = []
    found = measure_robustness(brightness, split, correct(split), batch_size, CPU, done.append)
    assert sum(done) == len(split)
    return found


@pytest.fixture(scope="module")
def found(split):
    return measured(split)


def test_the_accuracies_are_those_of_one_image_after_the_other(split, found):
    assert [each.corruption for each in found.corruptions] == list(CORRUPTIONS)
    right = np.zeros((len(CORRUPTIONS), 5, len(split)), bool)
    for kind, each in enumerate(CORRUPTIONS.values()):
        for strength, parameter in enumerate(each.parameters(9, 8)):
            for row in range(len(split)):
                image = split.images[row : row + 1]
                answer = int(brightness(each.change(image, parameter, draw(image))).argmax())
                right[kind, strength, row] = answer == split.labels[row]
    for each, own in zip(found.corruptions, right, strict=True):
        assert [one.accuracy for one in each.strengths] == pytest.approx(own.mean(1).tolist())
        assert each.overall.accuracy == pytest.approx(own.mean())
    assert found.corrupted.accuracy == pytest.approx(right.mean())
    assert found.clean.accuracy == pytest.approx(correct(split).mean())
    assert found.worst.corruption == list(CORRUPTIONS)[int(right.mean((1, 2)).argmin())]
    assert found.metrics["robust_accuracy"] == found.corrupted.accuracy
    assert found.metrics["worst_corruption_accuracy"] == pytest.approx(right.mean((1, 2)).min())


@pytest.mark.parametrize(
    ("device", "there", "used"), [("cpu", True, "cpu"), ("auto", True, "cuda"), ("cuda", False, "cpu")]
)
def test_a_gpu_is_used_where_there_is_one_unless_training_is_kept_off_it(split, monkeypatch, device, there, used):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(evaluate, "set_tf32", lambda device, precision: None)
    monkeypatch.setattr(evaluate, "measure_robustness", lambda *given: asked.append(given[4].type))

    evaluate._measure_robustness(torch.nn.Identity(), split, correct(split), Evaluate(corruptions="common"), device)

    assert asked == [used]


def test_the_batches_make_no_difference(split, found):
    assert measured(split, len(split)) == found


@pytest.mark.parametrize("right", [0, 1, 17, 40])
def test_the_interval_in_one_strength_is_wilsons(right):
    found = Accuracy.of(np.arange(40) < right)
    assert (found.accuracy_low, found.accuracy_high) == pytest.approx(accuracy_interval(right, 40))


def test_an_interval_over_the_same_images_is_wider_than_over_as_many_others():
    same = np.tile(np.random.default_rng(0).random(50) < 0.7, (7, 5, 1))
    found = Accuracy.of(same)
    assert (found.accuracy_low, found.accuracy_high) == pytest.approx(accuracy_interval(int(same[0, 0].sum()), 50))


def test_the_interval_over_all_corruptions_covers_its_value_in_95_of_100_test_splits(long):
    generator = np.random.default_rng(0)
    # Hard images are hard with every corruption.
    ease = generator.normal(1.0, 1.5, 20_000)[:, None] - generator.normal(0.5, 0.7, 35)
    shares = (generator.random(ease.shape) < 1 / (1 + np.exp(-ease))).T
    images, true, draws = 100, shares.mean(), 10_000 if long else 1_000
    held = 0
    for _ in range(draws):
        found = Accuracy.of(shares[:, generator.integers(0, 20_000, images)])
        held += found.accuracy_low <= true <= found.accuracy_high
    assert held / draws == pytest.approx(0.95, abs=0.02)


def overall(name, low, value, high):
    strengths = (Accuracy(value, low, high),) * 5
    return CorruptionAccuracy(name, "of something", (1.0, 2.0, 3.0, 4.0, 5.0), Accuracy(value, low, high), strengths)


def test_the_interval_of_the_worst_corruption_holds_what_others_may_be_as_low_as():
    worst, other = overall("noise", 0.55, 0.60, 0.65), overall("blur", 0.50, 0.61, 0.72)
    found = Robustness(9, Accuracy(0.9, 0.8, 1.0), Accuracy(0.6, 0.5, 0.7), (other, worst))
    assert found.worst is worst
    ends = [found.metrics[f"worst_corruption_accuracy{end}"] for end in ("_low", "", "_high")]
    assert ends == [0.50, 0.60, 0.65]


@pytest.mark.usefixtures("drawn")
def test_the_result_is_written_as_json_as_a_table_and_as_a_plot(split, found, tmp_path):
    write_robustness(found, split.images[0].numpy(), tmp_path)

    assert Robustness.read(tmp_path / "robustness.json") == found
    with (tmp_path / "robustness.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 5 * len(CORRUPTIONS)
    blur = found.corruptions[1]
    assert [float(row["accuracy"]) for row in rows if row["corruption"] == "blur"] == [
        one.accuracy for one in blur.strengths
    ]
    assert rows[5] | {"strength": "1", "parameter": "0.4", "unit": blur.unit} == rows[5]
    with Image.open(tmp_path / "robustness.png") as picture:
        assert picture.size[0] > 1000


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format_version", 2, r"format version 2, this release reads version 1; run `darkroom evaluate` again"),
        ("images", None, r"damaged \(images: "),
        ("corrupted", {"accuracy": 1.2, "accuracy_low": 0, "accuracy_high": 1}, r"damaged \(corrupted\.accuracy: "),
    ],
)
def test_a_damaged_file_is_refused_by_name(found, tmp_path, key, value, message):
    path = tmp_path / "robustness.json"
    found.write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ModelError, match=rf"robustness\.json: {message}"):
        Robustness.read(path)
