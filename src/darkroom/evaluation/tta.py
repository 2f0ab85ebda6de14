"""Test-time augmentation: run a model on several views of the same image."""

import torch
from torch import Tensor, nn

from darkroom.data.augmentation.geometry import translate


def views(images: Tensor, tta: str) -> list[tuple[float, Tensor]]:
    """Views of ``images`` uint8 [N, C, H, W] with weights that add up to 1.

    "flip" adds the mirror image; "flip-translate" gives half of the weight to these two and the rest to both
    shifted by one pixel along the diagonal, either way (after airbench: Jordan, 2024). "none" is the image alone.
    """
    if tta == "none":
        return [(1.0, images)]
    shown = [(1.0, images)]
    if tta == "flip-translate":
        shown = [(0.5, images)]
        for step in (-1, 1):
            shifts = torch.full((2, len(images)), step, device=images.device)
            shown.append((0.25, translate(images, shifts, 1, "reflect")))
    return [(weight / 2, view) for weight, each in shown for view in (each, each.flip(-1))]


def average_logits(model: nn.Module, images: Tensor, tta: str) -> Tensor:
    """The model's logits [N, classes], averaged over the views by their weights."""
    return sum((weight * model(view) for weight, view in views(images, tta)), start=torch.zeros(()))
