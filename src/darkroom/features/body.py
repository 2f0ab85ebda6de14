"""The body of a pretrained model as a function from raw pixels to features, in the fastest runtime on this machine."""

import time
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from darkroom.formats.onnx import check_installed, read_onnx, write_onnx
from darkroom.formats.pt2 import trace
from darkroom.models.classifier import Classifier
from darkroom.models.pretrained import Pretrained
from darkroom.training.device import set_tf32
from darkroom.utils.scratch import scratch_directory

FeatureFunction = Callable[[Tensor], Tensor]
# Images that are computed at once: more take more memory and are no faster.
BATCH = {"cpu": 16, "cuda": 64}
# Exporting takes so long that it is not worth it for less.
WORTH_EXPORT_SECONDS = 20.0
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


def fastest(body: Body, plain: FeatureFunction, images: Tensor, remaining: int) -> tuple[FeatureFunction, str]:
    """The runtime for the features of ``remaining`` further images, with its name: ONNX Runtime or torch.

    ONNX Runtime is taken on a CPU, where it is worth exporting the body, is installed, and gives what ``plain`` gives
    for ``images`` uint8 [N, C, H, W].
    """
    torch_ = plain, f"torch on {images.device.type}"
    if images.device.type != "cpu":
        return torch_
    expected, seconds = _timed(plain, images)
    if remaining * seconds / len(images) < WORTH_EXPORT_SECONDS:
        return torch_
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
    if found.shape != expected.shape or differs.any() or not found.isfinite().all() or took > seconds:
        return torch_
    return lambda shown: torch.cat([session(batch) for batch in shown.split(BATCH["cpu"])]), "ONNX Runtime"


def _timed(function: FeatureFunction, images: Tensor) -> tuple[Tensor, float]:
    function(images[:1])  # loads what it needs
    start = time.perf_counter()
    found = function(images)
    return found, time.perf_counter() - start
