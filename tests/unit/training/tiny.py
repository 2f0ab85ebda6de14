"""Images of six pixels a side in three classes, for trainings of milliseconds."""

import torch
from torch import Tensor, nn

from darkroom.data.batches import Split


class Scaled(nn.Module):
    """Bytes to numbers of about one."""

    def forward(self, images: Tensor) -> Tensor:
        return images / 128 - 1


def data(count: int) -> Split:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 1, 6, 6), generator=generator).to(torch.uint8)
    return Split(images, torch.randint(0, 3, (count,), generator=generator))
