"""Heat maps from logits alone: cover a part of the image, and see how much less the class is believed."""

from collections.abc import Callable

import torch
from torch import Tensor

from darkroom.explanation.score import log_odds

# Covered images that the model runs on at once. Few: a pretrained network enlarges small images, and its memory is that
# of the large ones.
BATCH = 8


@torch.no_grad()
def occlude(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, cells: int) -> Tensor:
    """How much the log-odds of ``labels`` int64 [N] fall where the uint8 ``images`` [N, C, H, W] are covered.

    Returns float32 [N, H, W], the mean of all windows that cover a pixel (Zeiler and Fergus, "Visualizing and
    understanding convolutional networks", 2014). A window is two of ``cells`` high and wide, and the next one begins a
    cell further, so that every pixel lies in four: (cells + 1)² passes. What is covered takes the mean color of the
    image.
    """
    height, width = images.shape[2:]
    rows, columns = _windows(height, cells), _windows(width, cells)
    covers = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)[:, None]
    falls = []
    means = images.float().mean((2, 3), keepdim=True).round().to(torch.uint8)
    for image, mean, label in zip(images, means, labels, strict=True):
        whole = log_odds(model(image[None]), label[None])
        left = [
            log_odds(model(torch.where(some, mean, image)), label.expand(len(some))) for some in covers.split(BATCH)
        ]
        falls.append((whole - torch.cat(left)).view(len(rows), len(columns)))
    return torch.einsum("nrc,rh,cw->nhw", torch.stack(falls).float(), rows.float(), columns.float()) / 4


def _windows(length: int, cells: int) -> Tensor:
    """Which of ``length`` pixels each of the windows covers: bool [cells + 1, length]."""
    edges = torch.arange(cells + 1) * length // cells
    pixels = torch.arange(length)
    begin = torch.cat([edges[:1], edges[:-1]])
    end = torch.cat([edges[1:], edges[-1:]])
    return (pixels >= begin[:, None]) & (pixels < end[:, None])
