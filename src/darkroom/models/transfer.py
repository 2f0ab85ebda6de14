"""Start from another model: copy its layers, and its last layer class by class."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from darkroom.config.settings import Model
from darkroom.data.cache import DatasetCard
from darkroom.errors import ModelError
from darkroom.models.card import ModelCard
from darkroom.models.classifier import NETWORK, SCALE, SHIFT, Classifier
from darkroom.models.files import weights_digest
from darkroom.models.network import Network, heads_of
from darkroom.models.registry import resolve
from darkroom.models.weights import COUNTER, check_fit, named_like, needed, read_weights
from darkroom.utils.files import read_json, sha256

# Settings of a model that change no tensor.
SHAPELESS = {
    *("dropout", "weights_path", "train", "freeze_epochs", "last_blocks", "layer_lr_decay", "freeze_norm", "head_init"),
    *("activation", "freeze_norm_scale", "whitening_epochs"),
}
# So many classes are named in a line.
SHOWN = 5


@dataclass(frozen=True)
class Start:
    """Initial weights, called ``name``, and the card of the model that they come from, if there is one."""

    name: str
    weights: Mapping[str, Tensor]
    card: ModelCard | None = None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes of the outputs of its head, in order; None if unknown."""
        return self.card.dataset_card.classes if self.card else None

    @property
    def digest(self) -> str:
        """The SHA-256 of the weights, whatever file they came in."""
        return weights_digest(self.weights)


@dataclass(frozen=True)
class TransferResult:
    """What was copied to a classifier: ``kept`` are the classes with copied outputs, ``new`` those with new outputs."""

    name: str
    kept: tuple[str, ...]
    new: tuple[str, ...]
    reason: str

    @property
    def line(self) -> str:
        """All of it in one line."""
        if not self.kept:
            return f"start: {self.name}; head new: {self.reason}"
        if not self.new:
            return f"start: {self.name}; head kept for all {len(self.kept)} classes"
        count = len(self.kept) + len(self.new)
        return (
            f"start: {self.name}; head kept for {len(self.kept)} of {count} classes, "
            f"new for {len(self.new)} ({_listed(self.new)})"
        )


def card_path(weights: Path) -> Path:
    """Where the card of a file of ``weights`` is, if Darkroom wrote them."""
    return weights.with_suffix(".json")


def has_card(weights: Path) -> bool:
    """Whether Darkroom wrote a card beside a file of ``weights``; other programs too write JSON there."""
    beside = card_path(weights)
    return beside.is_file() and "weights_sha256" in read_json(beside, error=ModelError, made_by="darkroom export")


def read_start(path: Path) -> Start:
    """The weights in ``path``, and the card that Darkroom wrote beside them. Raises ModelError."""
    weights = read_weights(path)
    return Start(str(path), weights, _card_beside(path, weights))


def _card_beside(path: Path, weights: Mapping[str, Tensor]) -> ModelCard | None:
    beside = card_path(path)
    if not has_card(path):
        return None
    card = ModelCard.parse(read_json(beside, error=ModelError, made_by="darkroom export"), beside)
    classes = card.dataset_card.classes
    if card.weights_sha256 not in (sha256(path), weights_digest(weights)):
        raise ModelError(
            f"{beside}: the card of other weights than {path.name}, so its {len(classes)} classes are not theirs; "
            "bring the card that was written with them, or remove it to begin with a new head"
        )
    return card


@torch.no_grad()
def transfer_weights(start: Start, classifier: Classifier, settings: Model, dataset: DatasetCard) -> TransferResult:
    """Copy the weights of ``start`` to ``classifier``, which was built from ``settings`` for ``dataset``.

    Its normalization stays that of its own data. The outputs of classes that the card also names are copied; without a
    card the classes of the outputs are unknown, and the whole head is new.
    Raises ModelError if the weights are not those of such a model.
    """
    network = classifier.network
    wanted = network.state_dict()
    _check_name(start, settings)
    own = _of_network(start.weights)
    found = network.named(own) if isinstance(network, Network) else named_like(own, wanted)
    heads, added = heads_of(network), _added(network)
    brings_head = _fits(found, wanted, added, heads)
    if not brings_head:
        found = {key: value for key, value in found.items() if not key.startswith(added)}
    body = needed(wanted, found, heads if brings_head else added)
    _check(start, settings, dataset, found, body)
    extra = (key for key in found if not (key in wanted or key.startswith(heads) or key.endswith(COUNTER)))
    if surplus := next(extra, None):
        raise ModelError(
            f"{start.name}: has weights for {surplus}, which {_named(settings)} lacks"
            f"{_differences(start, settings, dataset) or '; choose the model that they are of'}"
        )
    values = {key: found[key] for key in body}
    kept: list[str] = []
    reason = "the file does not say which classes it was trained on"
    if not brings_head and start.card:
        reason = "its head has other layers"
    elif brings_head and (before := start.classes) is not None:
        kept = [name for name in dataset.classes if name in before]
        reason = f"it knows none of these classes (but {_listed(before)})"
        rows = [dataset.classes.index(name) for name in kept]
        old_rows = [before.index(name) for name in kept]
        outputs = {key: value for key, value in wanted.items() if key.startswith(heads)}
        _check(
            start, settings, dataset, found, {key: v.new_empty(len(before), *v.shape[1:]) for key, v in outputs.items()}
        )
        for key, value in outputs.items():
            values[key] = value.clone()
            values[key][rows] = found[key][old_rows].to(value.dtype)
    if not body and not kept:
        raise ModelError(f"{start.name}: nothing of it can be taken over: its only layer is the head, and {reason}")
    network.load_state_dict(values, strict=False)
    return TransferResult(start.name, tuple(kept), tuple(name for name in dataset.classes if name not in kept), reason)


def _added(network: nn.Module) -> tuple[str, ...]:
    return tuple(f"{name}." for name in network.added) if isinstance(network, Network) else ()


def _fits(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], added: tuple[str, ...], heads: tuple[str, ...]
) -> bool:
    """Whether of the parts that ``added`` begin there are the same layers in ``found``, those of classes aside."""
    sizes = [
        {key: value.shape[key.startswith(heads) :] for key, value in each.items() if key.startswith(added)}
        for each in (found, wanted)
    ]
    return not added or sizes[0] == sizes[1]


def _of_network(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a classifier's weights those of its network, without the normalization; all of any others."""
    for name in weights:
        outer = name.removesuffix(SCALE)
        if outer != name and f"{outer}{SHIFT}" in weights:
            rest = [key for key in weights if key not in (name, f"{outer}{SHIFT}")]
            if all(key.startswith(f"{outer}{NETWORK}.") for key in rest):
                return {key.removeprefix(f"{outer}{NETWORK}."): weights[key] for key in rest}
    return dict(weights)


def _check_name(start: Start, settings: Model) -> None:
    if start.card:
        name = start.card.settings.get("model", {}).get("name")
        if name != settings.name:
            raise ModelError(
                f"{start.name}: weights of {name}, as its card says, but model.name is {settings.name}; "
                f"set model.name to {name}"
            )


def _check(
    start: Start, settings: Model, dataset: DatasetCard, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> None:
    try:
        check_fit(found, wanted, start.name, _named(settings))
    except ModelError as problem:
        if said := _differences(start, settings, dataset):
            raise ModelError(f"{str(problem).partition(';')[0]}{said}") from None
        raise


def _named(settings: Model) -> str:
    return f"{resolve(settings)['backbone']} (model.backbone)" if settings.name == "pretrained" else settings.name


def _differences(start: Start, settings: Model, dataset: DatasetCard) -> str:
    """The differences of model and images between the card and this project, as an addition to an error message."""
    if not start.card:
        return ""
    before = start.card.settings["model"]
    found = [
        f"model.{key} {_value(before[key])} (here {_value(value)})"
        for key, value in resolve(settings).items()
        if key not in SHAPELESS and key in before and _value(before[key]) != _value(value)
    ]
    shape = start.card.dataset_card.shape
    if shape != dataset.shape:
        sizes = ["x".join(map(str, each)) for each in (shape, dataset.shape)]
        found.append(f"images of {sizes[0]} (here {sizes[1]}: preprocess.channels, preprocess.image_size)")
    return f"; it was trained with {', '.join(found)}" if found else ""


def _value(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple | list) else str(value)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
