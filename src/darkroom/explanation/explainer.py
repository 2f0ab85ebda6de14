"""Heat maps of a model, by the method that it allows, in bounded time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from threading import Lock
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.errors import ModelError
from darkroom.explanation.cost import cost_of
from darkroom.explanation.layer_cam import layer_cam
from darkroom.explanation.occlusion import BATCH, occlude
from darkroom.explanation.score import scaled

Method = Literal["layer-cam", "occlusion"]
Heat = NDArray[np.float32]
# Of images of 28 pixels a side and fewer; of larger ones as many times as long as they are wider, up to the latter.
SECONDS = 0.3
SIDE = 28
MOST_SECONDS = 3.0
# Of that time, planned for: other work on the machine may take the rest.
SHARE = 0.5
# Parts, a side, that occlusion divides an image into. Fewer than the least show nothing.
MOST_CELLS = 24
LEAST_CELLS = 2
# Explained at once, at most, and fewer if all layers return more values for them: these stay in memory, and their
# gradients come on top. As float32 they are 256 MiB.
IMAGES = 16
VALUES = 1 << 26


def time_limit(shape: Sequence[int]) -> float:
    """The seconds that a heat map may take for a model that computes on ``shape`` (channels, height, width)."""
    return min(MOST_SECONDS, SECONDS * max(SIDE, *shape[1:]) / SIDE)


@dataclass(frozen=True)
class Plan:
    """How a model is explained: by which method, occlusion with so many ``cells``, and the ``seconds`` a heat map.

    LayerCAM is of so many ``images`` at once.
    """

    method: Method
    seconds: float
    cells: int = 0
    images: int = 1


class Explainer:
    """Heat maps of ``model``, which maps uint8 images [N, *shape] to logits [N, classes].

    LayerCAM where the model is one of torch with convolutions, else occlusion, of as many passes as there is time for.
    """

    def __init__(self, model: Callable[[Tensor], Tensor], shape: Sequence[int]) -> None:
        self._model = model
        self._shape = tuple(shape)
        self._one_at_a_time = Lock()

    def explain(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Heat:
        """How much each pixel of ``images`` [N, *shape] speaks for the class of ``labels`` [N]: float32 [N, H, W].

        0 is nothing; 1 is the most within an image, unless nothing in it speaks for the class. Threads may call it
        side by side. Raises ModelError as ``plan`` does.
        """
        plan = self.plan
        parts = torch.from_numpy(images).split(plan.images), torch.from_numpy(labels).split(plan.images)
        heat = [self._heat(*part, plan.cells) for part in zip(*parts, strict=True)]
        found: Heat = scaled(torch.cat(heat)).numpy()
        return found

    def _shows_layers(self, images: Tensor, labels: Tensor) -> bool:
        try:
            return layer_cam(self._model, images, labels) is not None
        except RuntimeError:  # of a step that has no gradient, or overwrites what the gradient needs
            return False

    def _heat(self, images: Tensor, labels: Tensor, cells: int) -> Tensor:
        if cells:
            return occlude(self._model, images, labels, cells)
        with self._one_at_a_time:  # several would need the memory of each
            found = layer_cam(self._model, images, labels)
        assert found is not None, "a model has lost its convolutions"
        return found

    @property
    def plan(self) -> Plan:
        """The plan for this model on this machine, measured when it is first asked for.

        Raises ModelError if a heat map would take longer than the time limit.
        """
        if isinstance(self._measured, ModelError):
            raise self._measured
        return self._measured

    @cached_property
    def _measured(self) -> Plan | ModelError:
        """The plan, or why there is none: to measure a slow model again would take as long each time."""
        try:
            return self._make_plan()
        except ModelError as problem:
            return problem

    def _make_plan(self) -> Plan:
        cost = cost_of(self._model, torch.zeros(1, *self._shape, dtype=torch.uint8))
        limit = time_limit(cost.shape or self._shape)
        images = torch.zeros(BATCH, *self._shape, dtype=torch.uint8)
        one, label = images[:1], torch.zeros(1, dtype=torch.int64)
        if self._shows_layers(one, label):
            seconds = _seconds(lambda: layer_cam(self._model, one, label))
            _check(seconds, limit)
            return Plan("layer-cam", seconds, images=max(1, min(IMAGES, VALUES // max(1, cost.values))))
        with torch.no_grad():
            each = _seconds(lambda: self._model(images)) / len(images)
        _check((LEAST_CELLS + 1) ** 2 * each, limit)
        cells = max(LEAST_CELLS, min(MOST_CELLS, *self._shape[1:], isqrt(int(SHARE * limit / each)) - 1))
        return Plan("occlusion", (cells + 1) ** 2 * each, cells)


def _check(seconds: float, limit: float) -> None:
    if seconds > limit:
        raise ModelError(
            f"heat maps: one would take {seconds:.2g} s on this machine, more than the {limit:.2g} s that it may take "
            "for images of this size; use a smaller model"
        )


def _seconds(run: Callable[[], object]) -> float:
    """The faster of two calls."""
    found = []
    for _ in range(2):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)
