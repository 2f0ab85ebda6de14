"""The initial weights of a training from train.start_from: a model in the registry or a file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from darkroom.config import Config
from darkroom.data.cache import SPLITS, DatasetCard, read_digests
from darkroom.data.digests import number
from darkroom.errors import DataError, ModelError, TrackingError
from darkroom.models.card import save_card
from darkroom.models.class_layer import ClassLayer
from darkroom.models.classifier import build_classifier
from darkroom.models.files import write_weights
from darkroom.models.head_init import begins_with_classes, without_classes
from darkroom.models.network import Network
from darkroom.models.pretrained import Pretrained
from darkroom.models.transfer import Start, read_start, transfer_weights
from darkroom.models.weights import read_weights
from darkroom.tracking.tracking_uri import store_exists, tracking_uri
from darkroom.utils.files import digest
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

if TYPE_CHECKING:  # MLflow takes seconds to import, and most trainings begin with new weights
    from darkroom.promotion.registry import Contender

# What is looked up in the registry: an alias, a version, the id of a run, or a version as MLflow writes it. All else
# is a file.
REGISTERED = re.compile(r"champion|challenger|previous|\d+|[0-9a-f]{32}|models:/(?P<name>[^/@]+)[/@][^/@]+")


@dataclass(frozen=True)
class InitialWeights:
    """Initial weights: ``reference`` finds them again, ``digest`` is theirs, ``line`` describes them in a line.

    ``reference`` names a version and not the alias champion, which may move; None if the settings of the model identify
    the weights. ``doubt`` says if the model was trained on images of the test split here.
    """

    reference: str | None
    digest: str
    line: str
    doubt: str | None = None


def load_initial_weights(
    config: Config, workspace: Workspace, card: DatasetCard
) -> tuple[Config, InitialWeights | None]:
    """The settings to train with, in which train.start_from is a local file, and its weights; None for new weights.

    The file is a copy, named by the digest of its weights and classes: the initial weights stay the same while
    the training runs, and the settings show which they were. model.weights_path is used like train.start_from.
    Raises ModelError or TrackingError if the weights are missing, or not of this architecture.
    """
    setting = "train.start_from" if config.train.start_from else "model.weights_path"
    wanted = config.train.start_from or config.model.weights_path
    if wanted is None:
        return config, _with_weights_of_its_own(config, card)
    model = config.model.model_copy(update={"weights_path": None})
    classifier = build_classifier(model, card)
    try:
        if config.train.start_from:
            start, reference = find_start(wanted, config, workspace)
        else:
            start, reference = read_start(workspace.given(wanted)), wanted
        taken = transfer_weights(start, classifier, model, card)
    except (ModelError, TrackingError) as problem:
        raise type(problem)(f"{setting}: {problem}") from None
    known = _known_classes(config, classifier.network, start)
    place = workspace.start(digest({"weights": start.digest, "classes": start.classes}))
    keep_start(start, place)
    for other in place.parent.glob(f"{workspace.start('*').stem}.*"):
        if other.stem != place.stem:
            other.unlink(missing_ok=True)
    train = config.train.model_copy(update={"start_from": str(place.resolve())})
    # Of a backbone's weights nobody expects the head to be kept.
    line = taken.line if start.card or (config.train.start_from and not known) else _line(start.name, known)
    beginning = InitialWeights(reference, start.digest, line, _find_leak(start.name, reference, config, workspace))
    return config.model_copy(update={"model": model, "train": train}), beginning


def _with_weights_of_its_own(config: Config, card: DatasetCard) -> InitialWeights | None:
    """The pretrained weights of the architecture, downloaded and checked before any work begins; None without any."""
    network = build_classifier(config.model, card).network
    if not isinstance(network, Network) or (path := network.fetch()) is None:
        return None
    network.initialize(torch.empty(0, *card.shape))
    start = Start(str(path), read_weights(path))
    return InitialWeights(None, start.digest, _line(start.name, _known_classes(config, network, start)))


def _known_classes(config: Config, network: nn.Module, start: Start) -> int:
    """How many known classes a new head begins with. Raises ModelError."""
    if not isinstance(network, Pretrained) or start.card or not begins_with_classes(config):
        return 0
    layer = ClassLayer.find(network, start.weights)
    if layer is None:
        raise without_classes(config)
    return len(layer.weight)


def _line(name: str, known: int) -> str:
    return f"start: {name}; head " + (f"from the {known:,} classes that it knows" if known else "new")


def find_start(wanted: str, config: Config, workspace: Workspace) -> tuple[Start, str]:
    """The weights that ``wanted`` refers to, and a reference that finds the same weights again.

    Raises ModelError or TrackingError.
    """
    if REGISTERED.fullmatch(wanted):
        return _from_registry(wanted, config, workspace)
    path = workspace.root / wanted
    if path.resolve() == workspace.weights.resolve() and not path.is_file():
        raise ModelError(
            f"{path}: not found; DVC removes a stage's outputs before it runs: name a version in the registry, or a "
            "copy"
        )
    path = workspace.given(wanted)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected champion, a version's number, or a file of weights")
    return read_start(path), wanted


def keep_start(start: Start, place: Path) -> None:
    """Write weights to ``place`` and, if they have one, their card beside it."""
    weights_sha256 = write_weights(start.weights, place)
    if start.card:
        save_card(replace(start.card, weights_sha256=weights_sha256), place.with_suffix(".json"))


def _from_registry(wanted: str, config: Config, workspace: Workspace) -> tuple[Start, str]:
    from darkroom.promotion.evaluated_model import load_evaluated_model
    from darkroom.tracking.tracker import registry_client

    if not store_exists():
        raise TrackingError(f"{wanted}: no MLflow store at {tracking_uri()}; name a file, or train without it first")
    contender = _find(wanted, config, workspace)
    with scratch_directory() as directory:
        model = load_evaluated_model(registry_client(workspace), contender, directory)
        weights: Mapping[str, Tensor] = model.program().state_dict
        start = Start(
            name=f"champion {contender}" if wanted == "champion" else str(contender),
            weights={key: value.detach().clone() for key, value in weights.items()},
            card=model.card(),
        )
    return start, contender.uri if contender.version else contender.run_id


def _find(wanted: str, config: Config, workspace: Workspace) -> "Contender":
    from darkroom.promotion.registry import find
    from darkroom.tracking.tracker import registry_client

    client = registry_client(workspace)
    named = REGISTERED.fullmatch(wanted)
    return find(client, (named and named["name"]) or config.registered_model, wanted)


def _find_leak(name: str, reference: str, config: Config, workspace: Workspace) -> str | None:
    """A line if the model that ``reference`` means was trained on images of the test split here; None if unknown."""
    if not REGISTERED.fullmatch(reference):
        return None
    from darkroom.promotion.evaluated_model import load_listing

    test = read_digests(workspace.processed(config.dataset.name), "test")
    if test is None:
        return None
    try:
        contender = _find(reference, config, workspace)
        with scratch_directory() as directory:
            listing = load_listing(contender, directory)
    except (DataError, TrackingError):  # a model without a list of its images
        return None
    learned, here = number(listing.digests[listing.splits != SPLITS.index("test")], test)
    seen = int(np.isin(here, learned).sum())
    if not seen:
        return None
    return (
        f"{name} was trained or tuned on {seen:,} of the {len(test):,} test images here: the test accuracy will be too "
        "high; begin with weights that have not seen them"
    )
