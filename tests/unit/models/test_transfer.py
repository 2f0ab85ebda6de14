"""A classifier takes over another one's layers, its head class by class, and nothing that is not its own."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from darkroom.config.settings import Model
from darkroom.data.cache import DatasetCard
from darkroom.errors import ModelError
from darkroom.models.card import ModelCard, save_card
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.models.files import save_weights
from darkroom.models.network import heads_of
from darkroom.models.transfer import Start, TransferResult, read_start, transfer_weights

ANIMALS = ("ape", "bee", "cat", "dog")
SHAPE = (1, 20, 20)
MLP = Model(name="mlp", hidden=(6,))
Wrap = Callable[[dict[str, Tensor]], Any]


@pytest.fixture
def data(make_card) -> Callable[..., DatasetCard]:
    """The card of a dataset of these classes."""

    def make(*classes: str, shape: tuple[int, int, int] = SHAPE, mean: float = 0.2) -> DatasetCard:
        return replace(make_card(shape), classes=classes or ANIMALS, mean=(mean,) * shape[0])

    return make


def made(model: Model, card: DatasetCard, seed: int) -> Classifier:
    torch.manual_seed(seed)
    return build_classifier(model, card)


def states(classifier: Classifier) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in classifier.state_dict().items()}


def put(directory: Path, model: Model, card: DatasetCard, *, seed: int = 1) -> Path:
    """models/model.safetensors and its card, of a model of ``card``."""
    path = directory / "model.safetensors"
    digest = save_weights(made(model, card, seed), path)
    settings = {"model": model.model_dump(mode="json"), "train": {}}
    save_card(ModelCard(asdict(card), settings, {}, {}, "run-1", digest), path.with_suffix(".json"))
    return path


def begin(path: Path, model: Model, card: DatasetCard) -> tuple[Classifier, TransferResult]:
    classifier = made(model, card, 2)
    return classifier, transfer_weights(read_start(path), classifier, model, card)


def refusal(path: Path, model: Model, card: DatasetCard) -> str:
    classifier = made(model, card, 2)
    before = states(classifier)
    with pytest.raises(ModelError) as raised:
        transfer_weights(read_start(path), classifier, model, card)
    message = str(raised.value)
    assert message.isprintable(), "more than one line"
    assert all(torch.equal(value, before[key]) for key, value in classifier.state_dict().items())
    return message.removeprefix(f"{path}: ")


# --- the same classes --------------------------------------------------------------------------------------


def test_every_architecture_goes_on_from_its_own_file(small_model: Model, small_side: int, data, tmp_path) -> None:
    card = data(shape=(3, small_side, small_side))

    classifier, taken = begin(put(tmp_path, small_model, card), small_model, card)

    expected = states(made(small_model, card, 1))
    assert all(torch.equal(value, expected[key]) for key, value in classifier.state_dict().items())
    assert taken.line == f"start: {tmp_path / 'model.safetensors'}; head kept for all 4 classes"


def test_the_normalization_is_that_of_the_new_data(data, tmp_path: Path) -> None:
    new = data(mean=0.7)

    classifier, _ = begin(put(tmp_path, MLP, data(mean=0.1)), MLP, new)

    expected = made(MLP, new, 0)
    assert torch.equal(classifier.scale, expected.scale)
    assert torch.equal(classifier.shift, expected.shift)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda found: found,
        lambda found: {f"module.{key}": value for key, value in found.items()},
        lambda found: {"state_dict": {f"model._orig_mod.{key}": value for key, value in found.items()}, "epoch": 1},
        # The network without its normalization, as somebody else would train it.
        lambda found: {k.removeprefix("network."): v for k, v in found.items() if k.startswith("network.")},
        lambda found: {"model_state_dict": {key: value.half() for key, value in found.items()}},
    ],
    ids=["as exported", "DataParallel", "compiled in Lightning", "network alone", "half precision"],
)
def test_a_file_of_torch_is_taken_however_it_is_wrapped(data, tmp_path: Path, wrap: Wrap) -> None:
    path = tmp_path / "digits.pth"
    old = states(made(MLP, data(), 1))
    torch.save(wrap(old), path)

    classifier, taken = begin(path, MLP, data())

    assert torch.allclose(classifier.state_dict()["network.1.weight"], old["network.1.weight"], atol=1e-3)
    assert taken.line == f"start: {path}; head new: the file does not say which classes it was trained on"


def test_the_card_that_is_exported_with_a_pth_tells_its_classes(data, tmp_path: Path) -> None:
    path = put(tmp_path, MLP, data())
    torch.save(states(made(MLP, data(), 1)), tmp_path / "model.pth")
    path.unlink()

    _, taken = begin(tmp_path / "model.pth", MLP, data())

    assert taken.kept == ANIMALS


# --- other classes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", [("dog", "ape", "cat", "bee"), ("bat", "dog"), ("ant", "bee", "cow", "dog", "emu")])
def test_outputs_are_kept_by_the_names_of_their_classes(small_model, small_side, data, tmp_path, now) -> None:
    shape = (3, small_side, small_side)
    card = data(*now, shape=shape)

    classifier, taken = begin(put(tmp_path, small_model, data(shape=shape)), small_model, card)

    old, new = states(made(small_model, data(shape=shape), 1)), states(made(small_model, card, 2))
    heads = tuple(f"network.{head}" for head in heads_of(classifier.network))
    for key, value in classifier.state_dict().items():
        if key.startswith(heads):
            for row, name in enumerate(now):
                expected = old[key][ANIMALS.index(name)] if name in ANIMALS else new[key][row]
                assert torch.equal(value[row], expected)
        elif key.startswith("network."):
            assert torch.equal(value, old[key])
    assert taken.kept == tuple(name for name in now if name in ANIMALS)
    assert taken.new == tuple(name for name in now if name not in ANIMALS)


def test_the_line_counts_the_classes_and_names_the_new_ones(data, tmp_path: Path) -> None:
    path = put(tmp_path, MLP, data())

    assert begin(path, MLP, data("ape", "bat", "dog"))[1].line == (
        f"start: {path}; head kept for 2 of 3 classes, new for 1 (bat)"
    )


def test_of_classes_that_share_nothing_the_head_is_new(data, tmp_path: Path) -> None:
    path = put(tmp_path, MLP, data())
    card = data("0", "1", "2", "3")

    classifier, taken = begin(path, MLP, card)

    assert torch.equal(classifier.state_dict()["network.4.weight"], made(MLP, card, 2).state_dict()["network.4.weight"])
    assert taken.line == f"start: {path}; head new: it knows none of these classes (but ape, bee, cat, dog)"


def test_without_names_a_head_of_as_many_outputs_is_not_trusted(data, tmp_path: Path) -> None:
    path = put(tmp_path, MLP, data())
    path.with_suffix(".json").unlink()

    classifier, taken = begin(path, MLP, data())

    assert taken.kept == ()
    assert torch.equal(classifier.state_dict()["network.4.bias"], made(MLP, data(), 2).state_dict()["network.4.bias"])


def test_another_programs_json_is_no_card(data, tmp_path: Path) -> None:
    path = put(tmp_path, MLP, data())
    path.with_suffix(".json").write_text('{"architectures": ["ResNet"]}')

    assert begin(path, MLP, data())[1].kept == ()


def test_nothing_but_a_head_that_cannot_be_kept_is_refused(data, tmp_path: Path) -> None:
    flat = Model(name="mlp", hidden=())
    path = put(tmp_path, flat, data())

    assert refusal(path, flat, data("x", "y")).startswith(
        "nothing of it can be taken over: its only layer is the head, and it knows none of these classes"
    )
    assert begin(path, flat, data("x", "dog"))[1].kept == ("dog",)


# --- what does not fit -------------------------------------------------------------------------------------


def test_another_architecture_is_refused_by_the_name_on_the_card(data, tmp_path: Path) -> None:
    path = put(tmp_path, MLP, data())

    assert refusal(path, Model(name="simple-cnn"), data()) == (
        "weights of mlp, as its card says, but model.name is simple-cnn; set model.name to mlp"
    )


def test_without_a_card_the_first_weights_that_differ_are_named(data, tmp_path: Path) -> None:
    path = put(tmp_path, MLP, data())
    path.with_suffix(".json").unlink()

    assert refusal(path, Model(name="simple-cnn"), data()) == (
        "no weights for 0.weight, which simple-cnn has; were they made by another model?"
    )


@pytest.mark.parametrize(
    ("model", "shape", "said"),
    [
        (
            Model(name="mlp", hidden=(7,)),
            SHAPE,
            "1.weight has shape [6, 400], but mlp needs [7, 400]; it was trained with model.hidden [6] (here [7])",
        ),
        (
            MLP,
            (3, 20, 20),
            "1.weight has shape [6, 400], but mlp needs [6, 1200]; it was trained with images of 1x20x20 "
            "(here 3x20x20: preprocess.channels, preprocess.image_size)",
        ),
        (
            Model(name="mlp", hidden=()),
            SHAPE,
            "has weights for 4.bias, which mlp lacks; it was trained with model.hidden",
        ),
    ],
)
def test_what_the_card_says_otherwise_is_named(data, tmp_path: Path, model: Model, shape, said: str) -> None:
    path = put(tmp_path, MLP, data())

    assert refusal(path, model, data(shape=shape)).startswith(said)


def test_a_deeper_model_is_not_cut_short(data, tmp_path: Path) -> None:
    path = put(tmp_path, Model(name="mlp", hidden=(6, 6)), data())
    path.with_suffix(".json").unlink()

    assert refusal(path, MLP, data()) == ("has weights for 7.bias, which mlp lacks; choose the model that they are of")


def test_a_card_of_other_weights_is_refused(data, tmp_path: Path) -> None:
    path = put(tmp_path, MLP, data())
    save_weights(made(MLP, data(), 5), path)

    with pytest.raises(
        ModelError, match=r"model\.json: the card of other weights than model\.safetensors, so its 4 cl"
    ):
        read_start(path)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda card: card["dataset"].pop("mean"), r"model\.json: dataset: damaged"),
        (lambda card: card.pop("run_id"), r"model\.json: damaged"),
        (lambda card: card.update(format_version=99), r"model\.json: format version 99"),
    ],
)
def test_a_damaged_card_is_refused(data, tmp_path: Path, edit: Callable[..., Any], said: str) -> None:
    path = put(tmp_path, MLP, data())
    card = json.loads(path.with_suffix(".json").read_text())
    edit(card)
    path.with_suffix(".json").write_text(json.dumps(card))

    with pytest.raises(ModelError, match=said):
        read_start(path)


def test_a_card_that_names_another_number_of_classes_is_refused(data, tmp_path: Path) -> None:
    path = put(tmp_path, MLP, data())
    card = json.loads(path.with_suffix(".json").read_text())
    card["dataset"]["classes"].append("emu")
    path.with_suffix(".json").write_text(json.dumps(card))

    assert refusal(path, MLP, data()).startswith("4.weight has shape [4, 6], but mlp needs [5, 6]")


def test_the_digest_is_that_of_the_weights_and_not_of_their_file(data, tmp_path: Path) -> None:
    path = put(tmp_path, MLP, data())
    other = tmp_path / "other.pth"
    torch.save({"state_dict": states(made(MLP, data(), 1))}, other)

    assert read_start(path).digest == read_start(other).digest
    assert read_start(path).digest != Start("", states(made(MLP, data(), 3))).digest
