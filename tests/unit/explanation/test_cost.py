"""What a model computes for an image is known from one pass, of a module or an exported program."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.explanation.cost import cost_of

IMAGE = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)


class Enlarging(nn.Module):
    """Computes on 10x10 pixels, whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.layer(F.interpolate(images.float(), (10, 10)))).mean((2, 3))


def test_the_size_is_that_of_what_the_first_convolution_is_given() -> None:
    model = Enlarging().eval()

    for form in (model, torch.export.export(model, (IMAGE,)).module()):
        assert cost_of(form, IMAGE).shape == (1, 10, 10)


def test_the_values_are_those_of_every_step() -> None:
    # As floats, enlarged, four filters, their positive part, the mean of each.
    assert cost_of(Enlarging().eval(), IMAGE).values == 25 + 100 + 400 + 400 + 4


def test_what_torch_does_not_compute_has_no_size() -> None:
    assert cost_of(lambda images: torch.from_numpy(images.numpy()), IMAGE).shape is None
