"""Dropout with a faster generation of masks."""

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

# A mask is drawn in 16-bit whole numbers: probabilities come in steps of one 65,536th.
STEPS = 1 << 16


class Dropout(nn.Dropout):
    """torch's dropout, of the same distribution, with four draws taken from each random number on the CPU.

    There torch draws a number for each activation, a tenth of a small network's training time. The probability
    is rounded to a 65,536th; what is kept is scaled by the rounded one, so that the mean stays exact. Draws come
    from torch's global generator.
    """

    def forward(self, activations: Tensor) -> Tensor:
        dropped = round(self.p * STEPS)
        if not self.training or activations.device.type != "cpu" or not 0 < dropped < STEPS:
            dropout: Tensor = super().forward(activations)
            return dropout
        # In the order in which the activations lie in memory: mixing two layouts would be slow.
        strides = torch.empty_like(activations, device="meta").stride()
        draws = draw(activations).as_strided(activations.shape, strides)
        # Straight into the dtype of the activations: a mask of truth values is ten times as slow to convert.
        kept = torch.ge(draws, dropped - STEPS // 2, out=torch.empty_like(activations))
        return activations * kept.mul_(STEPS / (STEPS - dropped))


def draw(activations: Tensor) -> Tensor:
    """A number for each of ``activations``, from all that 16 bits hold: int16 [count].

    As torch's own functions, it can be replaced by a torch.overrides.TorchFunctionMode.
    """
    if has_torch_function_unary(activations):
        drawn: Tensor = handle_torch_function(draw, (activations,), activations)
        return drawn
    count = activations.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(1 << 63), None)
    return words.view(torch.int16)[:count]
