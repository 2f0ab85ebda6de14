"""A head begins with what the weights of the backbone know of other classes."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.unit.features.conftest import BACKBONE, CPU
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.audit.cross_validation import Subject, cross_validate
from darkroom.config import Config
from darkroom.config.settings import Model
from darkroom.data.batches import Split, read_split
from darkroom.data.cache import SPLITS, DatasetCard
from darkroom.errors import CacheError, ModelError
from darkroom.features.files import CLASSES, read_class_layer
from darkroom.features.head import Head, start_head
from darkroom.features.task import without_effect
from darkroom.models import class_layer, head_init
from darkroom.models.card import ModelCard, save_card
from darkroom.models.class_layer import SCALES, ClassLayer, combine
from darkroom.models.files import save_weights
from darkroom.models.pretrained import Pretrained
from darkroom.models.registry import build
from darkroom.promotion.start_from import load_initial_weights
from darkroom.search.fused.loop import group
from darkroom.stages import search, train
from darkroom.training.fit import start_classifier
from darkroom.utils.files import write_json
from darkroom.workspace import Workspace

Opened = Callable[..., Head]
Configured = Callable[..., Config]
ZEROS_OR_CLASSES = {"model": {"head_init": {"choices": ["zeros", "classes"]}}}


def split(features: Tensor, labels: list[int]) -> Split:
    return Split(features[:, :, None, None], torch.tensor(labels))


def random_layer(known: int, features: int, seed: int) -> ClassLayer:
    generator = torch.Generator().manual_seed(seed)
    return ClassLayer(torch.randn(known, features, generator=generator), torch.randn(known, generator=generator))


def without_classes(weights: Path, place: Path) -> Path:
    """A copy of the weights that lacks the layer of classes."""
    save_file({key: value for key, value in load_file(weights).items() if not key.startswith("classifier.")}, place)
    return place


def test_new_classes_are_told_apart_by_the_known_ones_that_they_resemble() -> None:
    # A feature for each of five known classes: images of class 0 show the first two, those of class 1 the third.
    layer = ClassLayer(4 * torch.eye(5), torch.zeros(5))
    shown = torch.eye(5)

    head = combine(layer, split(shown[[0, 1, 2, 2]], [0, 0, 1, 1]), 2)

    assert head(shown[:3]).argmax(1).tolist() == [0, 0, 1]
    # What no image resembles says nothing.
    torch.testing.assert_close(*head(shown[3:]), rtol=0, atol=1e-6)


@given(
    st.integers(0, 1000),
    st.integers(1, 30),
    st.integers(2, 4),
    st.integers(1, 6),
    st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
)
def test_the_scale_of_a_combined_head_is_chosen_by_images_that_their_class_is_not_made_of(
    seed: int, images: int, classes: int, known: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = scale * torch.randn(images, 3, generator=generator)
    labels = torch.randint(classes, (images,), generator=generator)
    layer = random_layer(known, 3, seed)

    head = combine(layer, split(features, labels.tolist()), classes)

    given = (features @ layer.weight.T + layer.bias).double()
    shares, kinds = given.softmax(1), F.one_hot(labels, classes).double()
    averages = kinds.T @ shares / kinds.sum(0).clamp(min=1)[:, None]
    logits = given @ (averages - averages.mean(0)).T
    mean, deviation = logits.mean(0), float(logits.std(correction=0))
    assume(deviation == 0 or deviation > 1e-30)  # between them the weights, float32, are 0
    losses = dict.fromkeys(SCALES, 0.0)
    for image in range(images):
        others = (labels == labels[image]) & (torch.arange(images) != image)
        if others.any():
            made = averages.clone()
            made[labels[image]] = shares[others].mean(0)
            answer = (made - averages.mean(0)) @ given[image] - mean
            for each in SCALES:
                losses[each] += float(F.cross_entropy(each / (deviation or 1) * answer, labels[image]))
    best = min(losses.values())
    near = [each for each in SCALES if losses[each] <= best + 1e-4 * (1 + abs(best))] if any(losses.values()) else [1.0]
    found, expected = head(features).double(), (logits - mean) / (deviation or 1)
    assert min(float((found - each * expected).abs().max()) for each in near) <= 1e-3 * (1 + max(near))


def test_a_head_from_one_image_of_each_class_is_not_sure() -> None:
    generator = torch.Generator().manual_seed(0)
    features, other = torch.randn(12, 20, generator=generator), torch.randn(500, 20, generator=generator)

    head = combine(random_layer(50, 20, 0), split(features, list(range(12))), 12)

    assert 0.5 < float(head(features).std(correction=0)) <= 1
    assert F.cross_entropy(head(other), torch.arange(500) % 12) < math.log(12) + 1


def test_features_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, features, labels = random_layer(7, 5, 0), torch.randn(23, 5), [number % 3 for number in range(23)]
    expected = combine(layer, split(features, labels), 3)
    monkeypatch.setattr(class_layer, "BLOCK", 4)

    found = combine(layer, split(features, labels), 3)

    torch.testing.assert_close(found.weight, expected.weight)
    torch.testing.assert_close(found.bias, expected.bias)


def test_a_training_begins_with_the_combined_head(opened: Opened, configured: Configured) -> None:
    change = {"model__head_init": "classes"}
    head = opened(**change)
    layer = head.features.classes
    assert layer

    begun = start_head(configured(**change), head.features, CPU).eval()

    images = head.features.val.images
    expected = combine(layer, head.features.train, 3)(images)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(begun(images), expected, rtol=1e-4, atol=1e-5)


def test_workers_find_the_layer_of_classes(opened: Opened, weights: Path) -> None:
    head = opened()

    found = read_class_layer(head.directory)

    assert found
    states = load_file(weights)
    assert torch.equal(found.weight, states["classifier.weight"])
    assert torch.equal(found.bias, states["classifier.bias"])


def test_another_layer_of_the_same_body_takes_its_place_without_new_features(
    opened: Opened, weights: Path, tmp_path: Path
) -> None:
    before = opened()
    states = load_file(weights)
    save_file({**states, "classifier.weight": -states["classifier.weight"]}, tmp_path / "other.safetensors")

    after = opened(model__weights_path=str(tmp_path / "other.safetensors"))
    assert before.features.classes
    assert after.features.classes
    assert after.directory == before.directory
    assert torch.equal(after.features.classes.weight, -before.features.classes.weight)

    opened(model__weights_path=str(without_classes(weights, tmp_path / "none.safetensors")))
    assert read_class_layer(before.directory) is None


def test_a_damaged_layer_of_classes_is_refused_until_the_next_command(
    opened: Opened, capsys: pytest.CaptureFixture[str]
) -> None:
    path = opened().directory / CLASSES
    path.write_bytes(path.read_bytes()[:50])

    with pytest.raises(CacheError, match=r"classes\.safetensors: missing or damaged \(.*\); run `dvc repro` again$"):
        read_class_layer(path.parent)

    capsys.readouterr()
    assert opened(model__head_init="classes").features.classes
    # It is written again, and the features are not computed again.
    assert capsys.readouterr().err == ""


def test_weights_without_a_layer_of_classes_are_refused(
    opened: Opened, configured: Configured, weights: Path, tmp_path: Path
) -> None:
    change = {
        "model__weights_path": str(without_classes(weights, tmp_path / "w.safetensors")), "model__head_init": "classes"
    }  # fmt: skip
    with pytest.raises(
        ModelError,
        match=rf"^model\.head_init: the given weights of {BACKBONE} hold no dense layer of classes; set ",
    ):
        load_initial_weights(configured(**change), Workspace(), DatasetCard.read(Workspace().processed("folder")))
    features = opened(**{**change, "model__head_init": "zeros"}).features
    assert not start_head(configured(), features, CPU)(features.val.images).any()


@pytest.mark.parametrize("learning", ["head", "all"])
@pytest.mark.parametrize(
    ("written", "space"),
    [
        ({}, {"head_init": {"choices": ["zeros", "classes"]}}),
        ({"hidden": [4]}, {"head_init": {"choices": ["zeros", "classes"]}, "hidden": {"choices": [[4], []]}}),
        ({"hidden": [4], "head_init": "classes"}, {"hidden": {"choices": [[4], []]}}),
    ],
)
def test_a_search_refuses_them_before_its_first_trial(
    root: Path,
    configured: Configured,
    weights: Path,
    tmp_path: Path,
    learning: str,
    written: dict[str, Any],
    space: dict[str, Any],
) -> None:
    path = without_classes(weights, tmp_path / "w.safetensors")
    model = {f"model__{key}": value for key, value in written.items()}
    config = configured(
        **model, model__train=learning, model__weights_path=str(path), search__space={"model": space}, search__trials=2
    )

    with pytest.raises(ModelError, match=r"^model\.head_init: the given weights of .* hold no dense layer of classes"):
        search.run(config, Workspace())

    assert not list(root.glob("models/search/*"))


@pytest.mark.parametrize("learning", ["head", "all"])
def test_several_layers_have_no_use_for_known_classes(configured: Configured, learning: str) -> None:
    config = configured(model__head_init="classes", model__hidden=[4], model__train=learning)

    assert without_effect(config) == ["model.head_init has no effect on a head of several layers; drop model.hidden"]


def test_a_head_of_several_layers_begins_with_zeros(opened: Opened, configured: Configured) -> None:
    change = {"model__head_init": "classes", "model__hidden": [4]}
    features = opened(**change).features

    assert not start_head(configured(**change), features, CPU)(features.val.images).any()


def test_outputs_of_an_own_model_come_first(opened: Opened, configured: Configured, tmp_path: Path) -> None:
    head, config = opened(), configured()
    before = start_head(config, head.features, CPU)
    for parameter in before.network.parameters():
        nn.init.normal_(parameter)
    path = tmp_path / "before.safetensors"
    digest = save_weights(head.join(before), path)
    settings: dict[str, dict[str, Any]] = {"model": {"name": "pretrained"}}
    save_card(ModelCard(asdict(head.features.dataset), settings, {}, {}, "r", digest), path.with_suffix(".json"))
    change = {"train__start_from": str(path), "model__weights_path": None, "model__head_init": "classes"}

    features = opened(**change).features

    assert features.classes is None
    images = features.val.images
    begun = start_head(configured(**change), features, CPU).eval()
    torch.testing.assert_close(begun(images), before.eval()(images), rtol=1e-3, atol=1e-4)


def test_the_head_of_a_fold_has_not_seen_the_labels_of_its_images(root: Path, configured: Configured) -> None:
    config, workspace = configured(model__head_init="classes", audit__folds=2, train__lr=1e-12), Workspace()
    card = DatasetCard.read(workspace.processed("folder"))

    found = cross_validate(config, workspace, card)

    subject = Subject.open(config, workspace, card)
    assert subject.classes
    splits = [read_split(workspace.processed("folder"), card, name) for name in SPLITS]
    images = torch.cat([part for each in splits for part in subject.features(each)])
    labels = torch.cat([each.labels for each in splits])
    for fold in range(2):
        others = torch.from_numpy(found.folds != fold)
        expected = combine(subject.classes, Split(images[others], labels[others]), 3)(images[~others])
        np.testing.assert_allclose(found.logits[found.folds == fold], expected, rtol=1e-3, atol=1e-4)


def test_trials_with_either_beginning_are_one_program(configured: Configured) -> None:
    assert group(configured(model__head_init="classes")) == group(configured())


@pytest.mark.parametrize("init", ["classes", "zeros"])
def test_a_body_that_learns_begins_with_the_same_head(
    opened: Opened, configured: Configured, weights: Path, monkeypatch: pytest.MonkeyPatch, init: str
) -> None:
    monkeypatch.setattr(head_init, "BATCH", 4)
    head = opened(model__head_init=init)
    expected = head.join(start_head(configured(model__head_init=init), head.features, CPU))
    directory = Workspace().processed("folder")
    card = DatasetCard.read(directory)
    train, val = (read_split(directory, card, name) for name in ("train", "val"))

    # The weights of the body from its own path, or as the stages pass them on.
    given = configured(model__train="all", model__head_init=init)
    passed_on = configured(
        model__train="all", model__head_init=init, model__weights_path=None, train__start_from=str(weights)
    )
    for config in (given, passed_on):
        begun = start_classifier(config, card, train)
        assert begun.training
        with torch.no_grad():
            logits = begun.eval()(val.images)
        assert bool(logits.any()) is (init == "classes")
        torch.testing.assert_close(logits, expected(val.images), rtol=1e-3, atol=1e-4)


def test_the_head_of_many_classes_is_combined_from_more_images(
    configured: Configured, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(head_init, "LEAST_IMAGES", 5)
    monkeypatch.setattr(head_init, "IMAGES_PER_CLASS", 4)
    combined = head_init.combine

    def noted(layer: ClassLayer, train: Split, classes: int) -> ClassLayer:
        seen.append(len(train))
        return combined(layer, train, classes)

    monkeypatch.setattr(head_init, "combine", noted)
    directory = Workspace().processed("folder")
    card = DatasetCard.read(directory)

    config = configured(model__train="all", model__head_init="classes")
    start_classifier(config, card, read_split(directory, card, "train"))

    assert seen == [4 * 3]


@pytest.mark.parametrize("stage", [train, search])
def test_a_body_without_a_layer_of_classes_is_refused_before_its_training(
    stage: ModuleType, root: Path, configured: Configured, weights: Path, tmp_path: Path
) -> None:
    path = without_classes(weights, tmp_path / "w.safetensors")
    asked: dict[str, Any] = {"model__head_init": "classes"}
    if stage is search:
        asked = {"search__space": ZEROS_OR_CLASSES, "search__trials": 2}
    config = configured(model__train="all", model__weights_path=str(path), **asked)
    Workspace().report("preprocess").mkdir(parents=True)
    write_json(Workspace().best_params, {"params": {}, "trials": 0})

    with pytest.raises(ModelError, match=r"^model\.head_init: the given weights of .* hold no dense layer of classes"):
        stage.run(config, Workspace())

    assert not list(root.glob("mlruns*")) + list(root.glob("models/checkpoints/*")) + list(root.glob("*.db"))


def test_weights_of_a_searched_backbone_are_refused_before_its_first_trial(
    root: Path, configured: Configured, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = without_classes(weights, tmp_path / "w.safetensors")
    monkeypatch.setattr(Pretrained, "fetch", lambda network: path)  # as if the library's cache had it
    space = {"backbone": {"choices": [BACKBONE]}, **ZEROS_OR_CLASSES["model"]}
    config = configured(model__train="all", model__weights_path=None, search__space={"model": space}, search__trials=2)

    with pytest.raises(ModelError, match=r"^model\.head_init: the given weights of .* hold no dense layer of classes"):
        search.run(config, Workspace())

    assert not list(root.glob("models/search/*"))


def test_a_file_of_another_program_beside_the_weights_is_no_card(
    root: Path, configured: Configured, weights: Path, tmp_path: Path
) -> None:
    path = without_classes(weights, tmp_path / "w.safetensors")
    path.with_suffix(".json").write_text('{"architecture": "x"}')
    config = configured(
        model__train="all", model__weights_path=None, train__start_from=str(path), model__head_init="classes"
    )

    with pytest.raises(ModelError, match=r"^model\.head_init: the given weights of .* hold no dense layer of classes"):
        load_initial_weights(config, Workspace(), DatasetCard.read(Workspace().processed("folder")))


@pytest.mark.parametrize("learning", ["head", "last-blocks"])
@pytest.mark.parametrize("given", ["model.weights_path", "train.start_from", "the cache"])
def test_a_line_says_what_the_head_begins_with(
    configured: Configured, root: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, given: str, learning: str
) -> None:
    monkeypatch.setattr(Pretrained, "fetch", lambda network: weights)
    card = DatasetCard.read(Workspace().processed("folder"))
    place = {} if given == "model.weights_path" else {"model__weights_path": None}
    if given == "train.start_from":
        place["train__start_from"] = str(weights)
    lines = []
    for init in ("zeros", "classes"):
        config = configured(model__train=learning, model__head_init=init, **place)
        _, beginning = load_initial_weights(config, Workspace(), card)
        assert beginning
        lines.append(beginning.line.partition("; ")[2].partition(":")[0])

    assert lines == ["head new", "head from the 1,000 classes that it knows"]


@pytest.mark.parametrize(
    ("backbone", "layer"),
    [
        ("resnet18", "fc"),
        ("mobilenet_v3_small", "classifier.3"),
        (BACKBONE, "classifier"),
        # A convolution; and two heads, whose mean is the answer.
        ("squeezenet1_1", None),
        ("timm/deit_tiny_distilled_patch16_224", None),
    ],
)
def test_the_layer_of_classes_is_that_which_the_head_replaces(backbone: str, layer: str | None) -> None:
    network = build(Model(name="pretrained", backbone=backbone), (3, 32, 32), 2)
    assert isinstance(network, Pretrained)
    whole = network.backbone.build(11)

    found = network.class_layer(whole.state_dict())

    expected = whole.get_submodule(layer).weight if layer else None
    assert (found is None) == (layer is None)
    assert found is None or (torch.equal(found[0], expected) and found[1].shape == (11,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "bias"),
    [(slice(10), (9,)), (slice(10), (10, 1)), (slice(1), (1,)), (slice(0), (0,)), ((0, 0), (1,)), (0, (1,))],
)
def test_a_layer_that_tells_no_classes_apart_is_none(rows: Any, bias: tuple[int, ...]) -> None:
    network = build(Model(name="pretrained", backbone=BACKBONE), (3, 32, 32), 2)
    assert isinstance(network, Pretrained)
    states = timm.create_model(BACKBONE.removeprefix("timm/")).state_dict()
    states["classifier.weight"], states["classifier.bias"] = states["classifier.weight"][rows], torch.zeros(bias)

    assert network.class_layer(states) is None


def test_weights_without_a_bias_have_one_of_zeros() -> None:
    network = build(Model(name="pretrained", backbone=BACKBONE), (3, 32, 32), 2)
    assert isinstance(network, Pretrained)
    states = timm.create_model(BACKBONE.removeprefix("timm/")).state_dict()
    del states["classifier.bias"]

    found = network.class_layer(states)

    assert found
    assert found[1].tolist() == [0] * 1000
