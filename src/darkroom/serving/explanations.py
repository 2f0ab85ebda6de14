"""Heat maps beside the answers: what the champion looked at, one request after the other."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from darkroom.errors import ModelError, first_line
from darkroom.explanation.explainer import MOST_SECONDS, Explainer, Method
from darkroom.explanation.picture import heat_layer, png
from darkroom.serving.runtime import Images, Runtime

log = logging.getLogger(__name__)
# Requests that may wait for heat maps. Each takes MOST_SECONDS at most.
WAITING = 4


class Explanation(NamedTuple):
    """The heat map of an image as a PNG file, by ``method``, or the ``problem``: why there is none."""

    method: Method | None = None
    png: bytes | None = None
    problem: str | None = None


class Explanations:
    """Draws heat maps in a thread of its own, so that the model can answer meanwhile."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._waiting = 0

    async def draw(self, explainer: Explainer, images: Images, labels: Sequence[int]) -> list[Explanation]:
        """An explanation of the class ``labels`` [n] for each of ``images`` uint8 [n, C, H, W]."""
        if self._waiting >= WAITING:
            return [Explanation(problem="heat maps: too many requests wait for them; try again")] * len(images)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, _draw, explainer, images, labels)
        finally:
            self._waiting -= 1


def make_explainer(runtime: Runtime, shape: Sequence[int]) -> Explainer:
    """The explainer of a model by its runtime. ONNX Runtime shows nothing but logits."""

    def infer(images: Tensor) -> Tensor:
        return torch.from_numpy(runtime.infer(images.numpy()))

    return Explainer(runtime.module or infer, shape)


def _draw(explainer: Explainer, images: Images, labels: Sequence[int]) -> list[Explanation]:
    try:
        plan = explainer.plan
        count = max(1, int(MOST_SECONDS / plan.seconds))
        heats = explainer.explain(images[:count], np.array(labels[:count], np.int64))
    except ModelError as problem:
        return [Explanation(problem=str(problem))] * len(images)
    except Exception as problem:  # such as a lack of memory: the answer is there, and is sent
        log.exception("heat maps: failed")
        return [Explanation(problem=f"heat maps: failed ({first_line(problem)})")] * len(images)
    drawn = [Explanation(plan.method, png(Image.fromarray(heat_layer(heat)))) for heat in heats]
    late = Explanation(problem=f"heat maps: only the first {count} of a request are drawn; send fewer images at once")
    return drawn + [late] * (len(images) - len(drawn))
