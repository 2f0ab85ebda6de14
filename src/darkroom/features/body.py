"""The body of a pretrained model as a function from raw pixels to features, in the fastest runtime on this machine."""

import time
from collections.abc import Callable
from math import inf
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from darkroom.formats.onnx import check_installed, read_onnx, write_onnx
from darkroom.formats.pt2 import trace
from darkroom.models.classifier import Classifier
from darkroom.models.pretrained import Pretrained
from darkroom.training.device import set_tf32
from darkroom.utils.scratch import scratch_directory

FeatureFunction = Callable[[Tensor], Tensor]
# Images that are computed at once: more take more memory and are no faster.
BATCH = {"cpu": 16, "cuda": 64}
# Exporting takes so long that it is not worth it for less work. Counted and not timed: the same settings must give the
# same features, to the bit, in a fast hour of a machine and in a slow one.
WORTH_EXPORT_FLOPS = 4e11
# Another runtime must save so much of the time: where two are nearly as fast, chance would choose.
MIN_SAVING = 0.2
# Largest difference to what torch computes, as a share of an image's features.
TOLERANCE = 1e-3


class Body(nn.Module):
    """Maps uint8 images [N, C, H, W] to the features that the head of ``whole`` is given, float [N, features]."""

    scale: Tensor
    shift: Tensor

    def __init__(self, whole: Classifier) -> None:
        super().__init__()
        self.network = cast(Pretrained, whole.network)
        self.register_buffer("scale", whole.scale)
        self.register_buffer("shift", whole.shift)

    def forward(self, images: Tensor) -> Tensor:
        features = self.network.features(images * self.scale + self.shift)
        return features.to(torch.promote_types(features.dtype, torch.float32))


def feature_function(body: Body, device: torch.device) -> FeatureFunction:
    """``body`` as torch computes it on ``device``, where it lies, in fp32: from images to features there."""
    body.eval()
    size = BATCH.get(device.type, BATCH["cuda"])

    @torch.no_grad()
    def compute(images: Tensor) -> Tensor:
        set_tf32(device, "fp32")
        return torch.cat([body(batch) for batch in images.split(size)])

    return compute


def fastest(body: Body, plain: FeatureFunction, images: Tensor, count: int) -> tuple[FeatureFunction, str]:
    """The runtime for the features of ``count`` images, with its name: ONNX Runtime or torch.

    ONNX Runtime is taken on a CPU, where it is worth exporting the body, is installed, is clearly faster, and gives
    what ``plain`` gives for ``images`` uint8 [N, C, H, W].
    """
    torch_ = plain, f"torch on {images.device.type}"
    if images.device.type != "cpu" or count * _flops(plain, images[:1]) < WORTH_EXPORT_FLOPS:
        return torch_
    expected, seconds = _timed(plain, images)
    try:
        check_installed()
        with scratch_directory() as directory:
            path = directory / "body.onnx"
            write_onnx(trace(body, (images.shape[1], images.shape[2], images.shape[3])), {}, path)
            session = read_onnx(path)
        found, took = _timed(lambda shown: torch.cat([session(batch) for batch in shown.split(BATCH["cpu"])]), images)
    except Exception:  # of many kinds: not every model can be exported, and torch can compute each of them
        return torch_
    differs = (found - expected).norm(dim=1) > TOLERANCE * expected.norm(dim=1)
    is_slower = took > (1 - MIN_SAVING) * seconds
    if found.shape != expected.shape or differs.any() or not found.isfinite().all() or is_slower:
        return torch_
    return lambda shown: torch.cat([session(batch) for batch in shown.split(BATCH["cpu"])]), "ONNX Runtime"


def _flops(function: FeatureFunction, images: Tensor) -> int:
    """The floating-point operations of ``function`` for ``images``."""
    with FlopCounterMode(display=False) as counter:
        function(images)
    return int(counter.get_total_flops())


def _timed(function: FeatureFunction, images: Tensor) -> tuple[Tensor, float]:
    """What ``function`` gives for ``images``, and the shorter of two times, in seconds."""
    found, seconds = function(images[:1]), inf  # which loads what it needs
    for _ in range(2):
        start = time.perf_counter()
        found = function(images)
        seconds = min(seconds, time.perf_counter() - start)
    return found, seconds
