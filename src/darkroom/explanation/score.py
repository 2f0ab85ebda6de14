"""What a heat map explains, the log-odds of a class, and its scale."""

import torch
from torch import Tensor

TINY = torch.finfo(torch.float32).tiny


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """The log-odds float [N] of the classes ``labels`` int64 [N] for ``logits`` float [N, classes].

    Unlike a probability, they still change where the model is certain; unlike a logit, they compare the classes.
    """
    chosen = labels[:, None]
    others = logits.scatter(1, chosen, -torch.inf).logsumexp(1)
    return logits.gather(1, chosen)[:, 0] - others


def scaled(heat: Tensor) -> Tensor:
    """Maps [N, ...] of the evidence for a class as shares of its highest value, 0 to 1; what speaks against it is 0."""
    evidence = heat.clamp(min=0)
    return evidence / evidence.flatten(1).amax(1).clamp(min=TINY).view(-1, *[1] * (heat.ndim - 1))
