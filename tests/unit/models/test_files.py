"""A model on disk is the model that was saved, or it is refused."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from darkroom.config.settings import Model
from darkroom.errors import ModelError
from darkroom.models.card import ModelCard, save_card
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.models.files import load_classifier, save_weights

Saved = tuple[Classifier, Path, Path]


@pytest.fixture(params=["mlp", "simple-cnn"])
def saved(request: pytest.FixtureRequest, make_card, tmp_path: Path) -> Saved:
    weights, card_path = tmp_path / "model.safetensors", tmp_path / "model.json"
    card = make_card((3, 8, 8))
    torch.manual_seed(0)
    classifier = build_classifier(Model(name=request.param), card).eval()
    digest = save_weights(classifier, weights)
    settings = {"model": {"name": request.param}, "train": {"epochs": 3}}
    save_card(ModelCard(asdict(card), settings, {"system.device": "cpu"}, {"epoch": 2}, "run-1", digest), card_path)
    return classifier, weights, card_path


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    card = json.loads(path.read_text())
    edit(card)
    path.write_text(json.dumps(card))


def test_a_saved_model_gives_the_same_logits(saved: Saved) -> None:
    classifier, weights, card_path = saved
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)

    loaded, _ = load_classifier(weights, card_path)

    assert not loaded.training
    assert torch.equal(loaded(images), classifier(images))


def test_the_card_comes_back_as_it_was_written(saved: Saved, make_card) -> None:
    _, weights, card_path = saved

    card = load_classifier(weights, card_path)[1]

    assert card.dataset_card == make_card((3, 8, 8))
    assert (card.run_id, card.best_epoch, card.settings["train"]) == ("run-1", {"epoch": 2}, {"epochs": 3})
    assert card.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_the_same_weights_make_the_same_file(saved: Saved, tmp_path: Path) -> None:
    classifier, weights, _ = saved

    save_weights(classifier, tmp_path / "again.safetensors")

    assert (tmp_path / "again.safetensors").read_bytes() == weights.read_bytes()


def test_a_missing_card_is_refused(saved: Saved) -> None:
    _, weights, card_path = saved
    card_path.unlink()

    with pytest.raises(ModelError, match=r"model\.json: not found; run `darkroom train` first"):
        load_classifier(weights, card_path)


def test_a_card_without_weights_is_refused(saved: Saved) -> None:
    _, weights, card_path = saved
    weights.unlink()

    with pytest.raises(ModelError, match=r"model\.safetensors: not found; run `darkroom train` first"):
        load_classifier(weights, card_path)


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_truncated_weights_are_refused(saved: Saved, keep: int) -> None:
    _, weights, card_path = saved
    weights.write_bytes(weights.read_bytes()[:keep])

    with pytest.raises(ModelError, match=r"model\.safetensors: not the weights that .*model\.json describes, or damag"):
        load_classifier(weights, card_path)


@pytest.mark.parametrize("place", [0, 20, -1])
def test_weights_with_one_changed_byte_are_refused(saved: Saved, place: int) -> None:
    _, weights, card_path = saved
    content = bytearray(weights.read_bytes())
    content[place] ^= 1
    weights.write_bytes(content)

    with pytest.raises(ModelError, match=r"not the weights that .* describes, or damaged; run `darkroom train` again"):
        load_classifier(weights, card_path)


def test_a_card_of_another_format_is_refused(saved: Saved) -> None:
    _, weights, card_path = saved
    change(card_path, lambda card: card.update(format_version=99))

    with pytest.raises(ModelError, match=r"format version 99, this release reads version 1; run `darkroom train` ag"):
        load_classifier(weights, card_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 1'])
def test_a_damaged_card_is_refused(saved: Saved, content: str) -> None:
    _, weights, card_path = saved
    card_path.write_text(content)

    with pytest.raises(ModelError, match=r"model\.json: .*; run `darkroom train` again"):
        load_classifier(weights, card_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda card: card.pop("run_id"), r"model\.json: damaged .*run_id"),
        (lambda card: card.update(surprise=1), r"model\.json: damaged .*surprise"),
        (lambda card: card["dataset"].pop("mean"), r"model\.json: dataset: damaged \(mean: field required\)"),
        (
            lambda card: card["dataset"].update(std=[1, 0, 1]),
            r"dataset: damaged \(std\.1: input should",
        ),
        (
            lambda card: card["dataset"].update(mean=[0.5]),
            r"dataset: damaged \(.*mean and std: not",
        ),
        (lambda card: card.update(settings=None), r"model\.json: damaged \(settings: "),
        (
            lambda card: card["settings"]["model"].update(name="vgg"),
            r"cannot be loaded .*settings\.model\.name: unknown value",
        ),
        (lambda card: card["settings"]["model"].update(hidden=[3]), r"cannot be loaded .*size mismatch"),
        (lambda card: card["dataset"].update(classes=["a", "b"]), r"cannot be loaded .*size mismatch"),
        (lambda card: card["dataset"].update(shape=[3, 0, 8]), r"dataset: damaged \(shape\.1: "),
    ],
)
def test_a_card_that_does_not_fit_is_refused(saved: Saved, edit: Callable[..., Any], message: str) -> None:
    _, weights, card_path = saved
    change(card_path, edit)

    with pytest.raises(ModelError, match=f"(?s){message}"):
        load_classifier(weights, card_path)


def test_a_file_that_holds_no_weights_is_refused_also_with_its_digest(saved: Saved) -> None:
    _, weights, card_path = saved
    weights.write_text("nothing")
    change(card_path, lambda card: card.update(weights_sha256=hashlib.sha256(b"nothing").hexdigest()))

    with pytest.raises(ModelError, match=r"model\.safetensors: cannot be loaded"):
        load_classifier(weights, card_path)
