"""Files of pretrained weights: which are read, downloaded or refused; only the head of the network is new."""

import hashlib
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.unit.models.backbones import (
    BACKBONE,
    FILE_NAME,
    HEAD,
    SHAPE,
    States,
    assert_same,
    images,
    network,
    of_backbone,
)

from darkroom.config import parse
from darkroom.config.settings import Model
from darkroom.data.batches import Split
from darkroom.errors import ModelError
from darkroom.models.card import ModelCard, save_card
from darkroom.models.classifier import build_classifier
from darkroom.models.files import load_classifier, save_weights
from darkroom.models.network import Network
from darkroom.models.transfer import read_start, transfer_weights
from darkroom.training.fit import start_classifier


def refusal(made: Network) -> str:
    with pytest.raises(ModelError) as raised:
        made.initialize(images())
    message = str(raised.value)
    assert message.isprintable(), "more than one line"
    return message


def test_all_but_the_head_comes_from_the_file(weights_file: Path, learned: States) -> None:
    made = network(weights_path=str(weights_file))
    head = made.head[-1]
    before = head.weight.clone()

    made.initialize(images())

    assert_same(of_backbone(made.model.state_dict()), of_backbone(learned))
    assert head.weight.shape == (5, 1024)
    assert torch.equal(head.weight, before)


def test_the_head_is_new_also_for_as_many_classes_as_the_file_has(weights_file: Path, learned: States) -> None:
    made = network(1000, weights_path=str(weights_file))

    made.initialize(images())

    assert not torch.equal(made.head[-1].weight, learned[f"{HEAD}weight"])


@pytest.mark.parametrize("file", ["timm's own", "of Lightning", "of Darkroom", "of Darkroom, with another head"])
def test_files_of_every_make_give_the_body(
    weights_file: Path, learned: States, make_card, tmp_path: Path, file: str
) -> None:
    card = make_card(SHAPE)
    settings = Model(name="pretrained", backbone=BACKBONE, hidden=(8,))
    path = tmp_path / "start.pth"
    match file:
        case "timm's own":
            states = learned
        case "of Lightning":
            states = {f"model.{key}": value for key, value in learned.items()}
        case _:
            hidden = (8,) if file == "of Darkroom" else (4, 4)
            made = network(3, hidden=hidden, weights_path=str(weights_file))
            made.initialize(images())
            states = made.state_dict()
    torch.save(states, path)
    classifier = build_classifier(settings, card)

    transfer_weights(read_start(path), classifier, settings, card)

    assert_same(of_backbone(classifier.network.model.state_dict()), of_backbone(learned))
    found = classifier.network.state_dict()
    assert torch.equal(found["head.1.weight"], states.get("head.1.weight", torch.zeros(0))) == (file == "of Darkroom")


def test_a_training_starts_from_the_file(weights_file: Path, learned: States, make_card) -> None:
    model = {"name": "pretrained", "backbone": BACKBONE, "weights_path": str(weights_file)}
    split = Split(images(), torch.tensor([0, 1, 2, 0]))

    classifier = start_classifier(parse({"model": model}, where=""), make_card(SHAPE), split)

    assert_same(of_backbone(classifier.network.model.state_dict()), of_backbone(learned))


def test_the_file_that_torchvision_has_fetched_before_is_taken(
    torch_files: Path, weights_file: Path, learned: States
) -> None:
    torch_files.mkdir(parents=True)
    shutil.copyfile(weights_file, torch_files / FILE_NAME)
    made = network()

    made.initialize(images())

    assert_same(of_backbone(made.model.state_dict()), of_backbone(learned))


def hosted(made: Network, weights_file: Path, host: Path, digest: str) -> str:
    """Put the file on a host of its own, under a name that tells its digest as torchvision's names do."""
    name = f"small-{digest}.pth"
    host.mkdir()
    shutil.copyfile(weights_file, host / name)
    made.backbone.weights = SimpleNamespace(url=(host / name).as_uri())
    return name


def test_what_is_not_there_is_fetched_and_kept(
    tmp_path: Path, weights_file: Path, learned: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    made = network()
    name = hosted(made, weights_file, tmp_path / "host", hashlib.sha256(weights_file.read_bytes()).hexdigest()[:8])

    made.initialize(images())

    assert_same(of_backbone(made.model.state_dict()), of_backbone(learned))
    kept = tmp_path / "home" / "hub" / "checkpoints"
    assert [path.name for path in kept.iterdir()] == [name]


def test_a_file_of_another_digest_is_refused_and_not_kept(
    tmp_path: Path, weights_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    made = network()
    name = hosted(made, weights_file, tmp_path / "host", "00000000")
    kept = tmp_path / "home" / "hub" / "checkpoints"

    message = refusal(made)

    assert re.fullmatch(
        rf"model\.backbone: the weights of {BACKBONE} cannot be fetched \(invalid hash value .*\); "
        rf"put {name} into {re.escape(str(kept))}, or name a file with its state_dict in model\.weights_path",
        message,
    )
    assert list(kept.iterdir()) == []


def test_without_a_network_the_file_and_its_place_are_named(torch_files: Path) -> None:
    message = refusal(network())

    assert message == (
        f"model.backbone: the weights of {BACKBONE} cannot be fetched (Name or service not known); "
        f"put {FILE_NAME} into {torch_files}, or name a file with its state_dict in model.weights_path"
    )
    assert list(torch_files.iterdir()) == []


def test_a_download_that_ends_early_leaves_nothing_behind(
    tmp_path: Path, weights_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    made = network()
    hosted(made, weights_file, tmp_path / "host", "00000000")
    opened = torch.hub.urlopen

    def interrupted(*args: Any, **options: Any) -> Any:
        answer = opened(*args, **options)
        parts = iter([answer.read(1000)])

        def read(_size: int) -> bytes:
            for part in parts:
                return part
            raise ConnectionResetError("Connection reset by peer")

        monkeypatch.setattr(answer, "read", read)
        return answer

    monkeypatch.setattr(torch.hub, "urlopen", interrupted)

    assert "cannot be fetched (Connection reset by peer)" in refusal(made)
    assert list((tmp_path / "home" / "hub" / "checkpoints").iterdir()) == []


def test_a_place_that_cannot_be_written_is_reported_like_a_host_that_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub").write_text("a file where the directory should be")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    assert re.match(rf"model\.backbone: the weights of {BACKBONE} cannot be fetched \(.+\); put", refusal(network()))


def test_a_file_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "none.pth"

    assert refusal(network(weights_path=str(path))).startswith(f"{path}: no such file; expected weights")


def test_a_damaged_file_in_the_cache_is_refused_by_its_name(torch_files: Path, weights_file: Path) -> None:
    torch_files.mkdir(parents=True)
    (torch_files / FILE_NAME).write_bytes(weights_file.read_bytes()[:5000])

    assert refusal(network()).startswith(f"{torch_files / FILE_NAME}: not a file of weights, or damaged (")


def test_weights_of_another_shape_are_refused_by_the_first_that_differs(learned: States, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    other = {"features.1.block.0.0.weight": torch.zeros(8, 1, 3, 3), "features.12.1.weight": torch.zeros(2)}
    torch.save(learned | other, path)

    assert refusal(network(weights_path=str(path))) == (
        f"{path}: features.1.block.0.0.weight has shape [8, 1, 3, 3], but {BACKBONE} (model.backbone) needs "
        "[16, 1, 3, 3]; give the model the settings that the weights were trained with"
    )


def test_weights_that_lack_a_layer_are_refused(learned: States, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({key: value for key, value in learned.items() if key != "features.0.1.running_var"}, path)

    assert refusal(network(weights_path=str(path))) == (
        f"{path}: no weights for features.0.1.running_var, which {BACKBONE} (model.backbone) has; "
        "were they made by another model?"
    )


def test_a_file_that_does_not_fit_changes_nothing(learned: States, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({key: value for key, value in learned.items() if key != "classifier.0.bias"}, path)
    made = network(weights_path=str(path))
    before = {key: value.clone() for key, value in made.model.state_dict().items()}

    refusal(made)

    assert_same(made.model.state_dict(), before)


def test_a_file_of_before_there_were_counters_of_batches_is_taken(learned: States, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    old = {key: value for key, value in learned.items() if not key.endswith("num_batches_tracked")}
    assert len(old) < len(learned)
    torch.save(old, path)
    made = network(weights_path=str(path))

    made.initialize(images())

    found = made.model.state_dict()
    assert_same({key: found[key] for key in of_backbone(old)}, of_backbone(old))


def numbered(states: States) -> States:
    """Other weights of the same shapes, each of one number, so that their file is small."""
    return {
        key: torch.tensor(number, dtype=value.dtype).expand(value.shape)
        for number, (key, value) in enumerate(states.items())
    }


@pytest.mark.parametrize(
    ("backbone", "renamed", "example"),
    [
        # torchvision's files say denselayer1.norm.1, mlp.linear_1 and mlp.linear_2.
        (
            "densenet121",
            [(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.")],
            "features.denseblock4.denselayer16.conv.2.weight",
        ),
        (
            "vit_b_32",
            [(r"mlp\.0\.", "mlp.linear_1."), (r"mlp\.3\.", "mlp.linear_2.")],
            "encoder.layers.encoder_layer_11.mlp.linear_2.bias",
        ),
    ],
)
def test_a_file_with_the_names_of_older_models_is_taken(
    tmp_path: Path, backbone: str, renamed: list[tuple[str, str]], example: str
) -> None:
    path = tmp_path / "weights.pth"
    with torch.device("meta"):
        made = network(backbone=backbone, weights_path=str(path))
    expected = numbered(made.model.state_dict())
    old = {}
    for key, value in expected.items():
        name = key
        for pattern, replacement in renamed:
            name = re.sub(pattern, replacement, name)
        old[name] = value
    assert example in old
    assert old.keys() != expected.keys()
    torch.save(old, path)
    made.to_empty(device="cpu")

    made.initialize(images())

    found = made.model.state_dict()
    *backbone_names, _weight, _bias = expected
    assert_same({key: found[key] for key in backbone_names}, {key: expected[key] for key in backbone_names})


def test_a_trained_model_is_loaded_without_the_file_it_started_from(
    make_card, weights_file: Path, torch_files: Path, tmp_path: Path
) -> None:
    own = tmp_path / "mine.pth"
    shutil.copyfile(weights_file, own)
    settings = {"name": "pretrained", "backbone": BACKBONE, "weights_path": str(own)}
    card = make_card(SHAPE)
    classifier = build_classifier(Model(**settings), card)
    classifier.initialize(images())
    classifier.eval()
    paths = tmp_path / "model.safetensors", tmp_path / "model.json"
    digest = save_weights(classifier, paths[0])
    save_card(ModelCard(asdict(card), {"model": settings}, {}, {}, "run-1", digest), paths[1])
    own.unlink()

    loaded, _ = load_classifier(*paths)

    with torch.no_grad():
        assert torch.equal(loaded(images()), classifier(images()))
