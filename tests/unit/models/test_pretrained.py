"""A torchvision model takes over what a file of weights knows, and only its head is new."""

import hashlib
import re
import shutil
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize, resize

from darkroom.config import parse
from darkroom.config.settings import Augment, Model, Train
from darkroom.data.batches import CPU, Split
from darkroom.errors import ModelError
from darkroom.models.card import ModelCard, save_card
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.models.files import load_classifier, save_weights
from darkroom.models.network import Network
from darkroom.models.pretrained import Pretrained
from darkroom.models.registry import build
from darkroom.models.transfer import read_start, transfer_weights
from darkroom.training.fit import fit, start_classifier

BACKBONE = "mobilenet_v3_small"
HEAD = "classifier.3."
# As the file is called at download.pytorch.org.
FILE_NAME = "mobilenet_v3_small-047dcff4.pth"
# Of the pictures of ImageNet.
MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]
SHAPE = (3, 32, 32)
# The smallest of each family, and with --long those of another size.
FAMILIES = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "maxvit_t",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11_bn",
    "vit_b_16",
    *(pytest.param(backbone, marks=pytest.mark.long) for backbone in ("efficientnet_b1", "vit_h_14")),
]

States = dict[str, Tensor]


@pytest.fixture(scope="module")
def learned() -> States:
    """Weights of a network for the thousand classes of ImageNet, with averages that no new network has."""
    torch.manual_seed(7)
    states: States = torchvision.models.get_model(BACKBONE, weights=None).state_dict()
    for name, value in states.items():
        if name.endswith("running_mean"):
            value.normal_(std=0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("num_batches_tracked"):
            value.fill_(1234)
    return states


@pytest.fixture(scope="module")
def weights_file(learned: States, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(learned, path)
    return path


@pytest.fixture
def torch_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torchvision keeps its files, with nothing in it, and no way to fetch any."""

    def unreachable(*_args: Any, **_options: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    return tmp_path / "hub" / "checkpoints"


def network(classes: int = 5, *, seed: int = 0, **settings: Any) -> Any:
    torch.manual_seed(seed)
    made = build(Model(name="pretrained", **{"backbone": BACKBONE, **settings}), SHAPE, classes)
    assert isinstance(made, Network)
    return made


@cache
def on_meta(backbone: str, **settings: Any) -> Any:
    """A network for seven classes without numbers, which takes little time to make, where its family allows that."""
    with torch.device("cpu" if backbone.startswith("regnet") else "meta"):
        return network(7, backbone=backbone, **settings)


def images(count: int = 4, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def seen(classifier: Classifier, pixels: Tensor) -> Tensor:
    """What reaches torchvision's model of ``pixels``."""
    found: list[Tensor] = []
    hook = classifier.network.model.register_forward_pre_hook(lambda _module, inputs: found.append(inputs[0]))
    with torch.no_grad():
        classifier.eval()(pixels)
    hook.remove()
    return found[0]


def of_backbone(states: States) -> States:
    return {key: value for key, value in states.items() if not key.startswith(HEAD)}


def assert_same(found: States, expected: States) -> None:
    assert found.keys() == expected.keys()
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []


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


@pytest.mark.parametrize("epoch", [1, 5])
def test_a_frozen_body_never_learns(epoch: int) -> None:
    made = network(hidden=(8,))

    made.train().begin_epoch(epoch)

    assert {name for name, value in made.named_parameters() if value.requires_grad} == {
        "head.1.weight", "head.1.bias", "head.4.weight", "head.4.bias",
    }  # fmt: skip
    assert made.head.training
    assert not made.model.training


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


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("resnet19", "did you mean .*'resnet18'"),
        ("vit_b16", "did you mean .*'vit_b_16'"),
        ("?", "choose from: alexnet"),
    ],
)
def test_an_unknown_backbone_is_refused_with_the_nearest_ones(given: str, hint: str) -> None:
    with pytest.raises(ModelError, match=rf"^model\.backbone: no model '{re.escape(given)}'; {hint}"):
        network(backbone=given)


@pytest.mark.parametrize(
    "backbone",
    [
        # Auxiliary heads; weights that need a version number; not a classifier of images.
        "googlenet",
        "inception_v3",
        "mnasnet1_0",
        "fcn_resnet50",
        "quantized_resnet18",
        "r3d_18",
    ],
)
def test_a_model_that_cannot_be_fine_tuned_is_refused(backbone: str) -> None:
    with pytest.raises(ModelError, match=rf"^model\.backbone: no model '{backbone}'; (did you mean|choose from)"):
        network(backbone=backbone)


@pytest.mark.parametrize("backbone", FAMILIES)
def test_every_family_gives_logits_of_the_classes(backbone: str) -> None:
    made = on_meta(backbone).eval()

    logits = made(torch.empty(2, 3, 20, 30, device=next(made.parameters()).device))

    assert logits.shape == (2, 7)


@pytest.mark.parametrize("backbone", FAMILIES)
def test_the_head_is_the_layer_that_gives_the_logits(backbone: str) -> None:
    made = on_meta(backbone)

    made.begin_epoch(1)

    learning = [value for value in made.parameters() if value.requires_grad]
    assert 1 <= len(learning) <= 2
    assert all(len(value) == 7 for value in learning)


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


def test_images_are_normalized_and_resized_as_the_weights_expect(make_card) -> None:
    pixels = images(2, (3, 20, 30))
    classifier = build_classifier(Model(name="pretrained", backbone=BACKBONE), make_card((3, 20, 30)))

    found = seen(classifier, pixels)

    expected = normalize(resize(pixels / 255, [224, 224], antialias=True), MEAN, STD)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_larger_images_are_made_smaller_without_aliasing(make_card) -> None:
    # Stripes of one pixel, three to each that is left: picked out singly they would be black or white.
    side = 3 * 224
    pixels = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    pixels[..., ::2] = 255
    classifier = build_classifier(Model(name="pretrained", backbone=BACKBONE), make_card((3, side, side)))

    found = seen(classifier, pixels)[..., 2:-2]

    black, white = (normalize(torch.full_like(found, shade), MEAN, STD) for shade in (0.0, 1.0))
    assert ((found - black) / (white - black) - 0.5).abs().max() < 0.1


def test_images_of_the_expected_size_are_not_touched(make_card) -> None:
    pixels = images(1, (3, 224, 224))
    classifier = build_classifier(Model(name="pretrained", backbone=BACKBONE), make_card((3, 224, 224)))

    found = seen(classifier, pixels)

    torch.testing.assert_close(found, normalize(pixels / 255, MEAN, STD), rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [32, 64])
def test_the_size_of_what_the_backbone_is_given_can_be_set(make_card, side: int) -> None:
    pixels = images(2, (3, 64, 64))
    classifier = build_classifier(Model(name="pretrained", backbone=BACKBONE, input_size=side), make_card((3, 64, 64)))
    assert all(module.training for module in classifier.network.modules())

    found = seen(classifier, pixels)

    expected = normalize(resize(pixels / 255, [side, side], antialias=True), MEAN, STD)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "side", "usual"), [("vit_b_16", 96, 224), ("squeezenet1_1", 8, 224)], ids=["one size", "too small"]
)
def test_a_size_that_the_backbone_does_not_take_is_refused(backbone: str, side: int, usual: int) -> None:
    with pytest.raises(
        ModelError,
        match=rf"^model\.input_size: {backbone} does not take images of {side}x{side} pixels \(.+\); leave it empty "
        rf"for {usual}x{usual}$",
    ):
        build(Model(name="pretrained", backbone=backbone, input_size=side), SHAPE, 2)


@pytest.mark.parametrize(("backbone", "side"), [("efficientnet_b1", 240), ("swin_v2_t", 256), ("vit_h_14", 518)])
def test_every_backbone_has_its_own_size(backbone: str, side: int) -> None:
    made = on_meta(backbone).eval()
    shapes: list[torch.Size] = []
    hook = made.model.register_forward_pre_hook(lambda _module, inputs: shapes.append(inputs[0].shape))

    made(torch.empty(1, 3, 32, 32, device="meta"))
    hook.remove()

    assert shapes == [(1, 3, side, side)]


def test_gray_images_are_seen_as_the_same_gray_in_three_channels(make_card) -> None:
    pixels = images(2, (1, 32, 32))
    settings = Model(name="pretrained", backbone=BACKBONE)
    torch.manual_seed(0)
    gray = build_classifier(settings, make_card((1, 32, 32))).eval()
    color = build_classifier(settings, make_card((3, 32, 32))).eval()
    color.load_state_dict(gray.state_dict())

    with torch.no_grad():
        assert torch.equal(gray(pixels), color(pixels.expand(-1, 3, -1, -1)))


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
