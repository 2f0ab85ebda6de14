"""Taking the trained model elsewhere."""

from pathlib import Path

import torch

from darkroom.errors import ModelError
from darkroom.files import atomic_file
from darkroom.models.files import load_classifier, save_card
from darkroom.workspace import Workspace


def export_pth(workspace: Workspace, path: Path) -> None:
    """Write the model's weights to ``path`` as a plain state_dict, and its card as JSON beside it.

    ``torch.load(path, weights_only=True)`` reads the weights; ``build_classifier`` with the card's settings and
    dataset makes the module that takes them. Raises ModelError if there is no model, or if ``path`` is the card's.
    """
    if path.suffix == ".json":
        raise ModelError(f"{path}: the card of the weights goes there; give the weights another ending, such as .pth")
    classifier, card = load_classifier(workspace.weights, workspace.model_card)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        torch.save({name: value.contiguous() for name, value in classifier.state_dict().items()}, partial)
    save_card(card, path.with_suffix(".json"))
