"""A model of timm is fine-tuned like one of torchvision, and its weights are read where timm's files lie."""

import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.v2.functional import normalize, resize

from darkroom.config.settings import Model
from darkroom.errors import ModelError
from darkroom.models.classifier import build_classifier
from darkroom.models.network import heads_of
from darkroom.models.registry import build

# timm's own models for tests: of each family one with few weights.
SMALL = "timm/test_efficientnet"
FAMILIES = ["timm/test_byobnet", "timm/test_convnext", SMALL, "timm/test_resnet", "timm/test_vit", "timm/test_vit2"]
# Built without numbers: these are large. Two heads; a name of weights; trained without classes; a head within a head.
LARGE = [
    "timm/levit_128s",
    "timm/resnet18.a1_in1k",
    "timm/vit_small_patch14_dinov2",
    "timm/vit_small_patch16_dinov3",
    "timm/vit_base_patch16_clip_224",
    "timm/vit_base_patch16_siglip_224",
    "timm/caformer_s18",
    "timm/tf_efficientnet_lite0",
]
SHAPE = (3, 32, 32)
States = dict[str, Tensor]


def network(backbone: str = SMALL, classes: int = 5, **settings: Any) -> Any:
    torch.manual_seed(0)
    return build(Model(name="pretrained", backbone=backbone, **settings), SHAPE, classes)


@cache
def on_meta(backbone: str) -> Any:
    with torch.device("meta"):
        return network(backbone, 7)


@pytest.fixture(scope="module")
def learned() -> States:
    torch.manual_seed(7)
    states: States = timm.create_model(SMALL.removeprefix("timm/")).state_dict()
    return {key: value + 0.25 if value.is_floating_point() else value for key, value in states.items()}


@pytest.fixture(scope="module")
def weights_file(learned: States, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(learned, path)
    return path


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of Hugging Face, whose host cannot be reached."""

    def unreachable(*_args: Any, **_options: Any) -> None:
        raise OSError("connection failed") from OSError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    return tmp_path


def refusal(made: Any) -> str:
    with pytest.raises(ModelError) as raised:
        made.initialize(torch.empty(0))
    message = str(raised.value)
    assert message.isprintable(), "more than one line"
    return message


def assert_taken(made: Any, learned: States) -> None:
    found = made.model.state_dict()
    assert [
        key for key in learned if not key.startswith("classifier.") and not torch.equal(found[key], learned[key])
    ] == []


def test_all_but_the_head_comes_from_the_file(weights_file: Path, learned: States) -> None:
    made = network(weights_path=str(weights_file))
    head = made.head[-1]
    before = head.weight.clone()

    made.initialize(torch.empty(0))

    assert_taken(made, learned)
    assert head.weight.shape[0] == 5
    assert torch.equal(head.weight, before)


def test_the_file_in_the_cache_of_hugging_face_is_taken(offline: Path, weights_file: Path, learned: States) -> None:
    repository = offline / "models--timm--test_efficientnet.r160_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copyfile(weights_file, snapshot / "model.safetensors")
    made = network()

    made.initialize(torch.empty(0))

    assert_taken(made, learned)


def test_what_is_not_there_is_fetched(
    offline: Path, weights_file: Path, learned: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[tuple[str, str]] = []

    def download(repository: str, file: str) -> str:
        wanted.append((repository, file))
        return str(weights_file)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda _url: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    made = network()

    made.initialize(torch.empty(0))

    assert wanted == [("timm/test_efficientnet.r160_in1k", "model.safetensors")]
    assert_taken(made, learned)


def test_without_a_network_the_file_and_its_place_are_named(offline: Path) -> None:
    assert refusal(network()) == (
        f"model.backbone: the weights of {SMALL} cannot be fetched (Name or service not known); name model.safetensors "
        "of https://huggingface.co/timm/test_efficientnet.r160_in1k, once fetched, in model.weights_path"
    )


def test_a_model_that_timm_has_no_weights_for_needs_a_file(offline: Path) -> None:
    without = next(name for name in timm.list_models("resnet*") if not timm.models.is_model_pretrained(name))
    with torch.device("meta"):
        made = network(f"timm/{without}")

    assert refusal(made) == (
        f"model.backbone: the weights of timm/{without} cannot be fetched (timm has none in a file of "
        "tensors alone); name a file with its state_dict in model.weights_path, or choose another"
    )


def test_weights_of_another_model_are_refused(weights_file: Path) -> None:
    message = refusal(network("timm/test_resnet", weights_path=str(weights_file)))

    assert message == (
        f"{weights_file}: no weights for conv1.0.weight, which timm/test_resnet (model.backbone) has; "
        "were they made by another model?"
    )


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("timm/resnet19", "did you mean 'timm/resnet18' or "),
        ("timm/tf_efficientnet_lite0.in2k", r"did you mean 'timm/tf_efficientnet_lite0\.in1k' or "),
        ("timm/?", "`darkroom backbones PATTERN` lists them$"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_ones(given: str, hint: str) -> None:
    with pytest.raises(ModelError, match=rf"^model\.backbone: no model '{given.replace('?', '[?]')}'; {hint}"):
        network(given)


def test_without_timm_its_installation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(ModelError, match=r"^model\.backbone: timm/… needs timm, .*; run `pip install .*'\.\[timm\]'`$"):
        network()


def test_a_model_without_a_layer_for_classes_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^model\.backbone: timm/gemma4_vit_167m_enc has no layer that gives"):
        on_meta("timm/gemma4_vit_167m_enc")


@pytest.mark.parametrize("backbone", FAMILIES + LARGE)
def test_every_family_gives_logits_and_only_its_heads_learn_while_it_is_frozen(backbone: str) -> None:
    made = on_meta(backbone)

    made.begin_epoch(1)
    logits = made.eval()(torch.empty(2, 3, 20, 30, device="meta"))

    learning = {name for name, value in made.named_parameters() if value.requires_grad}
    assert logits.shape == (2, 7)
    assert learning
    assert learning == {name for name, _ in made.named_parameters() if name.startswith(heads_of(made))}
    assert all(len(made.get_parameter(name)) == 7 for name in learning)
    assert len(learning) == 2


@pytest.mark.parametrize("backbone", FAMILIES + LARGE)
def test_blocks_learn_the_slower_the_nearer_they_are_to_the_input(backbone: str) -> None:
    made = on_meta(backbone)

    factors = made.lr_factors()

    made.begin_epoch(1)
    in_order = [factors[value] for value in made.parameters() if not value.requires_grad]
    assert len(factors) == len(in_order)
    assert in_order == sorted(in_order)
    assert in_order[-1] == 0.8
    assert len(set(in_order)) >= 5


def test_images_are_normalized_and_resized_as_timms_configuration_says(make_card) -> None:
    pixels = torch.randint(0, 256, (2, 3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    classifier = build_classifier(Model(name="pretrained", backbone=SMALL), make_card((3, 20, 30))).eval()
    found: list[Tensor] = []
    classifier.network.model.register_forward_pre_hook(lambda _module, inputs: found.append(inputs[0]))

    with torch.no_grad():
        classifier(pixels)

    configured = timm.models.get_pretrained_cfg("test_efficientnet")
    resized = resize(pixels / 255, list(configured.input_size[1:]), 3, antialias=True)  # 3 is Pillow's bicubic
    assert configured.interpolation == "bicubic"
    torch.testing.assert_close(found[0], normalize(resized, configured.mean, configured.std), rtol=0, atol=1e-4)


def test_the_published_file_of_a_model_fits_it(mirror: Path | None) -> None:
    path = (mirror or Path()) / "photos" / "tf_efficientnet_lite0.safetensors"
    if not path.is_file():
        pytest.skip("no mirror here holds photos/tf_efficientnet_lite0.safetensors")
    made = network("timm/tf_efficientnet_lite0", weights_path=str(path))

    made.initialize(torch.empty(0))

    # Of trained normalization, which in a new network is 1.
    assert made.model.bn1.running_var.std() > 0.1
