"""Which parts of a pretrained network are trained, when, and at which rate."""

from pathlib import Path

import pytest
import torch
from tests.unit.models.backbones import (
    BACKBONE,
    FAMILIES,
    SHAPE,
    States,
    assert_same,
    images,
    network,
    of_backbone,
    on_meta,
)
from torch import nn

from darkroom.config.settings import Augment, Model, Train
from darkroom.data.batches import CPU, Split
from darkroom.models.classifier import build_classifier
from darkroom.models.pretrained import Pretrained
from darkroom.training.fit import fit


@pytest.mark.parametrize("epoch", [1, 5])
def test_a_frozen_body_never_learns(epoch: int) -> None:
    made = network(hidden=(8,))

    made.train().begin_epoch(epoch)

    assert {name for name, value in made.named_parameters() if value.requires_grad} == {
        "head.1.weight", "head.1.bias", "head.4.weight", "head.4.bias",
    }  # fmt: skip
    assert made.head.training
    assert not made.model.training


@pytest.mark.parametrize("backbone", FAMILIES)
def test_blocks_learn_the_slower_the_nearer_they_are_to_the_input(backbone: str) -> None:
    made = on_meta(backbone)

    factors = made.lr_factors()

    made.begin_epoch(1)
    # torchvision lists the parameters in the order in which an image passes them.
    backbone_parameters = [value for value in made.parameters() if not value.requires_grad]
    in_order = [factors[value] for value in backbone_parameters]
    assert len(factors) == len(backbone_parameters)
    assert in_order == sorted(in_order)
    assert in_order[-1] == 0.8
    assert len(set(in_order)) >= 5


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_each_block_learns_at_a_share_of_the_next_ones_rate(decay: float) -> None:
    made = network(backbone="resnet18", layer_lr_decay=decay)

    factors = made.lr_factors()

    found: dict[str, set[float]] = {}
    for name, value in made.model.named_parameters():
        if not name.startswith("fc."):
            found.setdefault(name.partition(".")[0], set()).add(factors[value])
    blocks = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
    assert found == {name: {decay ** (len(blocks) - number)} for number, name in enumerate(blocks)}


def test_the_last_normalization_of_a_transformer_is_not_taken_for_its_input() -> None:
    made = on_meta("vit_b_16")

    factors = made.lr_factors()

    encoder = made.model.encoder
    assert factors[encoder.ln.weight] == 0.8
    assert factors[encoder.pos_embedding] < factors[next(encoder.layers[0].parameters())]


@pytest.mark.parametrize("freeze_epochs", [0, 1, 2])
def test_for_as_long_as_it_is_frozen_only_the_head_learns(
    make_card, weights_file: Path, learned: States, freeze_epochs: int
) -> None:
    settings = Model(
        name="pretrained",
        backbone=BACKBONE,
        weights_path=str(weights_file),
        train="all",
        freeze_epochs=freeze_epochs,
    )
    torch.manual_seed(0)
    classifier = build_classifier(settings, make_card(SHAPE))
    split = Split(images(3), torch.tensor([0, 1, 2]))
    classifier.initialize(split.images)
    states = [{key: value.clone() for key, value in classifier.network.state_dict().items()}]

    def keep(_metrics: object) -> None:
        states.append({key: value.clone() for key, value in classifier.network.state_dict().items()})

    training = Train(epochs=2, batch_size=3, lr=0.01, schedule="constant", device="cpu", precision="fp32")
    fit(classifier, split, split, training, Augment(), CPU, on_epoch=keep)

    assert len(states) == 3
    for epoch in (1, 2):
        now, before = states[epoch], states[epoch - 1]
        body, before_it = ({k: v for k, v in each.items() if k.startswith("model.")} for each in (now, before))
        assert all(not torch.equal(now[key], before[key]) for key in now.keys() - body.keys())
        if epoch <= freeze_epochs:
            # The averages of its normalization too.
            assert_same(body, {f"model.{key}": value for key, value in of_backbone(learned).items()})
        else:
            assert [key for key in body if torch.equal(body[key], before_it[key])] == []


ALL_BLOCKS = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]


def that_learn(made: Pretrained) -> tuple[set[str], set[str]]:
    """The blocks of a model with weights that learn, and those with a normalization that follows its batches."""
    weights = {name.partition(".")[0] for name, value in made.model.named_parameters() if value.requires_grad}
    norms = {
        name.partition(".")[0]
        for name, module in made.model.named_modules()
        if isinstance(module, nn.BatchNorm2d) and module.training
    }
    return weights, norms


@pytest.mark.parametrize("count", [1, 2, 6, 100])
def test_the_last_blocks_learn_and_the_others_keep_their_averages(count: int) -> None:
    made = network(backbone="resnet18", train="last-blocks", last_blocks=count, freeze_epochs=1)
    made.train().begin_epoch(1)
    assert that_learn(made) == (set(), set())

    for epoch in (2, 3):
        made.train().begin_epoch(epoch)
        learning = set(ALL_BLOCKS[-count:])
        assert that_learn(made) == (learning, learning - {"conv1"})
    assert all(value.requires_grad for value in made.head.parameters())


@pytest.mark.parametrize("train", ["last-blocks", "all"])
def test_a_frozen_normalization_keeps_its_averages_while_its_weights_learn(train: str) -> None:
    made = network(backbone="resnet18", train=train, freeze_epochs=0, freeze_norm=True)

    made.train().begin_epoch(1)

    learning = set(ALL_BLOCKS[-3:] if train == "last-blocks" else ALL_BLOCKS)
    assert that_learn(made) == (learning, set())
    assert made.model.layer4[0].bn1.weight.requires_grad


def test_a_transformers_own_weights_learn_with_its_first_block() -> None:
    made = on_meta("vit_b_16", train="last-blocks", last_blocks=100, freeze_epochs=0)

    made.train().begin_epoch(1)

    assert all(value.requires_grad for value in made.parameters())
