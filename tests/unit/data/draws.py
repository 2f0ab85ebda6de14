"""Random images, and generators that draw their changes."""

import numpy as np
import torch


def noise(shape, seed=0):
    """Pixels uint8 of this shape, drawn evenly from 0 to 255."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def seeded(seed):
    return torch.Generator().manual_seed(seed)
