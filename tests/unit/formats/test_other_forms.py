"""The forms that torch reads: the same logits, and plain files."""

import json

import pytest
import torch
from safetensors.torch import load_file

from darkroom.data.cache import DatasetCard
from darkroom.errors import ModelError
from darkroom.formats.pt2 import read_pt2, trace, write_pt2
from darkroom.formats.state_dict import read_state_dict, write_pth, write_safetensors
from darkroom.models.card import ModelCard
from darkroom.models.files import save_weights

SETTINGS = {"model": {"name": "simple-cnn", "filters": [4, 8], "hidden": [8]}}


@pytest.fixture
def classifier(make_classifier):
    # Its weights lie channels last in memory.
    return make_classifier(name="simple-cnn", filters=(4, 8), hidden=(8,))


@pytest.fixture
def card(make_card):
    data: DatasetCard = make_card()
    return ModelCard(vars(data), SETTINGS, {}, {}, "run", "0" * 64)


def test_an_exported_program_gives_the_same_logits_for_any_number_of_images(classifier, noise, tmp_path):
    write_pt2(trace(classifier, (1, 8, 8)), {}, tmp_path / "model.pt2")
    model = read_pt2(tmp_path / "model.pt2")

    with torch.no_grad():
        for size in (1, 7, 64):
            torch.testing.assert_close(model(noise(size)), classifier(noise(size)), rtol=1e-4, atol=1e-5)


def test_an_exported_program_carries_its_metadata(classifier, tmp_path):
    write_pt2(trace(classifier, (1, 8, 8)), {"classes": ["é", "b"]}, tmp_path / "model.pt2")

    found = {"metadata.json": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=found)
    assert json.loads(found["metadata.json"]) == {"classes": ["é", "b"]}


def test_an_exported_program_tells_neither_directories_nor_images(classifier, noise, tmp_path):
    program = trace(classifier, (1, 8, 8))
    program.example_inputs = ((noise(4),), {})
    write_pt2(program, {}, tmp_path / "model.pt2")

    assert torch.export.load(tmp_path / "model.pt2").example_inputs is None
    content = (tmp_path / "model.pt2").read_bytes()
    assert b"classifier.py" not in content
    assert noise(4).numpy().tobytes() not in content


def test_tracing_leaves_the_classifier_as_it_was(classifier):
    before = {name: (value.clone(), value.stride()) for name, value in classifier.state_dict().items()}
    trace(classifier, (1, 8, 8))

    for name, value in classifier.state_dict().items():
        assert torch.equal(value, before[name][0])
        assert value.stride() == before[name][1]


def test_pth_is_a_plain_state_dict(classifier, tmp_path):
    write_pth(classifier, tmp_path / "model.pth")

    found = torch.load(tmp_path / "model.pth", weights_only=True)
    assert found.keys() == classifier.state_dict().keys()
    assert all(value.is_contiguous() for value in found.values())
    assert all(torch.equal(found[name], value) for name, value in classifier.state_dict().items())


def test_safetensors_are_the_bytes_that_training_writes(classifier, tmp_path):
    write_safetensors(classifier, tmp_path / "exported.safetensors")
    save_weights(classifier, tmp_path / "trained.safetensors")

    assert (tmp_path / "exported.safetensors").read_bytes() == (tmp_path / "trained.safetensors").read_bytes()
    assert load_file(tmp_path / "exported.safetensors").keys() == classifier.state_dict().keys()


@pytest.mark.parametrize(("write", "name"), [(write_pth, "a.pth"), (write_safetensors, "a.safetensors")])
def test_weights_and_card_make_the_classifier_again(classifier, card, noise, tmp_path, write, name):
    write(classifier, tmp_path / name)
    model = read_state_dict(tmp_path / name, card)

    with torch.no_grad():
        assert torch.equal(model(noise(7)), classifier(noise(7)))


def test_damaged_safetensors_are_refused_in_one_line(card, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"not weights")

    with pytest.raises(ModelError, match=r"a\.safetensors: not a file of weights, or damaged \([^\n]*\)$"):
        read_state_dict(tmp_path / "a.safetensors", card)
