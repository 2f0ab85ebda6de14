"""The model to export: the one in the working tree, or one from the registry."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.export import ExportedProgram

from darkroom.config import Config
from darkroom.errors import ModelError, TrackingError
from darkroom.evaluation.logits import LogitsFunction
from darkroom.evaluation.predictions import IDENTITY
from darkroom.evaluation.reference import REFERENCE, Reference
from darkroom.formats.pt2 import trace
from darkroom.models.card import ModelCard
from darkroom.models.classifier import Classifier
from darkroom.models.files import load_classifier, rebuild
from darkroom.tracking.runs import WEIGHTS_TAG
from darkroom.tracking.tracking_uri import store_exists
from darkroom.utils.console import warn
from darkroom.utils.files import read_json
from darkroom.workspace import Workspace

if TYPE_CHECKING:  # MLflow takes seconds to import, and a project without a store does without
    from darkroom.promotion.registry import Contender


@dataclass(frozen=True)
class ExportSource:
    """A model to export, called ``name``; ``stem`` is the name of its file without an ending.

    ``data`` names its dataset. ``model`` computes in fp32 on the CPU the answers that a file must give; ``program``
    makes its graph. ``built`` is its module with the card that it was built from, None for a version without a model
    card. ``metadata`` are JSON values that go with it; ``taken`` are its versions and runs in the registry.
    """

    name: str
    stem: str
    data: str
    model: LogitsFunction
    program: Callable[[], ExportedProgram]
    built: tuple[Classifier, ModelCard] | None
    metadata: dict[str, Any]
    taken: "tuple[Contender, ...]" = ()

    def module(self) -> tuple[Classifier, ModelCard]:
        """Its module, and the card that describes how to rebuild it. Raises ModelError if there is no card."""
        if not self.built:
            raise ModelError(
                f"{self.name}: registered without the settings that its module is built from; "
                "export it as onnx or pt2, or train it again"
            )
        return self.built


def from_working_tree(config: Config, workspace: Workspace) -> ExportSource:
    """The model in the working tree, with its registered versions, if any. Raises ModelError if there is no model."""
    classifier, card = load_classifier(workspace.weights, workspace.model_card)
    data = card.dataset_card
    taken = _registered(config, workspace, card.weights_sha256)
    metadata = {
        "classes": list(data.classes),
        "shape": list(data.shape),
        "fingerprint": data.fingerprint,
        "weights_sha256": card.weights_sha256,
        "decoder": data.decoder or None,
        "temperature": _temperature(workspace.report("evaluate"), card),
        **_identity(config, taken),
    }
    return ExportSource(
        name=str(workspace.weights),
        stem="model",
        data=data.name,
        model=classifier,
        program=lambda: trace(classifier, data.shape),
        built=(classifier, card),
        metadata=_known(metadata),
        taken=taken,
    )


def from_registry(config: Config, workspace: Workspace, reference: str, place: Path) -> ExportSource:
    """The model ``reference``: a version, an alias or the id of a run; its files are downloaded to ``place``.

    Raises TrackingError if it is not there, or is not as it was registered.
    """
    from darkroom.promotion.evaluated_model import load_evaluated_model
    from darkroom.promotion.registry import find
    from darkroom.tracking.tracker import registry_client

    client, name = registry_client(workspace), config.registered_model
    contender = find(client, name, reference)
    model = load_evaluated_model(client, contender, place)
    program, card, said = model.program(), model.card(), model.reference()
    classifier = rebuild(card, program.state_dict, str(contender)) if card else None
    metadata = {
        "classes": list(model.answers.classes),
        "shape": list(model.shape),
        "fingerprint": model.fingerprint,
        "weights_sha256": contender.tags.get(WEIGHTS_TAG),
        "decoder": (card.dataset_card.decoder or None) if card else None,
        "temperature": said.temperature if said else None,
        **_identity(config, (contender,)),
    }
    return ExportSource(
        name=str(contender),
        stem=f"{name}-{contender.version or contender.run_id[:8]}",
        data=card.dataset_card.name if card else config.dataset.name,
        model=classifier or program.module(),
        program=lambda: program,
        built=(classifier, card) if classifier and card else None,
        metadata=_known(metadata),
        taken=(contender,),
    )


def _registered(config: Config, workspace: Workspace, weights_sha256: str) -> "tuple[Contender, ...]":
    """The versions with these weights. Looking creates no store, and an unreachable one is no error."""
    if not store_exists():
        return ()

    from darkroom.promotion.registry import contender, with_weights
    from darkroom.tracking.tracker import registry_client

    try:
        client = registry_client(workspace)
    except TrackingError as problem:
        warn(f"{problem}; what the check finds is noted beside the file only")
        return ()
    found = with_weights(client, config.registered_model, weights_sha256)
    return tuple(contender(version) for version in found)


def _identity(config: Config, taken: "tuple[Contender, ...]") -> dict[str, Any]:
    """The name, version and run of a model in the registry: of several versions, the newest."""
    if not taken:
        return {}
    latest = taken[-1]
    return {
        "name": config.registered_model if latest.version else None,
        "version": latest.version,
        "run_id": latest.run_id,
    }


def _temperature(report: Path, card: ModelCard) -> float | None:
    """The temperature from the evaluation in the working tree, if that is of these weights."""
    try:
        identity = read_json(report / IDENTITY, error=ModelError, made_by="darkroom evaluate")
        said = Reference.read(report / REFERENCE)
    except ModelError:
        return None
    return said.temperature if identity.get("weights_sha256") == card.weights_sha256 else None


def _known(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if value is not None}
