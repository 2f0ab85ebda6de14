"""The runtime of a model: ONNX Runtime or torch, whichever is faster for this model on this machine."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from darkroom.errors import ModelError, first_line
from darkroom.formats.onnx import INPUT, write_onnx
from darkroom.utils.console import warn

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]
Infer = Callable[[Images], Logits]
Kind = Literal["onnx", "torch"]
# Batches that a server meets: one image alone, and as many as arrive together under load.
BATCHES = (1, 16)
# In turn, so that other work on the machine affects both. Each turn has CALLS calls, fewer if they take longer than
# ROUND_SECONDS; a large model takes a second or two in all.
ROUNDS = 5
CALLS = 20
ROUND_SECONDS = 0.1
# What two libraries may differ by, of the largest logit: the order of their sums.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Runtime:
    """``infer`` maps images uint8 [N, C, H, W] to logits float32 [N, classes]; any thread may call it.

    ``seconds`` is what it takes for an image, measured here. ``module`` is the same model for torch, with gradients,
    if torch computes.
    """

    kind: Kind
    infer: Infer
    seconds: float
    module: Callable[[Tensor], Tensor] | None = None


def choose_runtime(
    program: ExportedProgram,
    wanted: Literal["auto", "onnx", "torch"],
    probe: Images,
    metadata: Mapping[str, Any],
    place: Path,
    cores: int,
) -> Runtime:
    """The runtime for ``program`` that is ``wanted``, or that answers faster.

    ``probe`` uint8 [N, C, H, W] are images that both must answer alike; ``place`` is a directory for the ONNX file,
    which is read and no longer needed afterwards; ``cores`` are those of this process. Raises ModelError if ONNX
    Runtime is wanted and cannot be used.
    """
    module = program.module()
    candidates: dict[Kind, Infer] = {"torch": _torch_infer(module)}
    if wanted != "torch":
        try:
            candidates["onnx"] = _onnx_infer(program, metadata, place / "model.onnx", cores)
            _check_alike(candidates["torch"], candidates["onnx"], probe)
        except Exception as problem:  # whatever a converter stumbles over: torch can still answer
            candidates.pop("onnx", None)
            why = f"ONNX Runtime cannot be used ({first_line(problem)})"
            if wanted == "onnx":
                raise ModelError(f"{why}; set serve.runtime to torch") from None
            warn(f"{why}; torch answers")
    if wanted == "onnx":
        del candidates["torch"]
    seconds = _measure(candidates, probe)
    kind = min(seconds, key=lambda kind: seconds[kind])
    return Runtime(kind, candidates[kind], seconds[kind], module if kind == "torch" else None)


def _torch_infer(module: Callable[[Tensor], Tensor]) -> Infer:
    def infer(images: Images) -> Logits:
        with torch.inference_mode():
            logits: Logits = module(torch.from_numpy(images)).numpy()
            return logits

    return infer


def _onnx_infer(program: ExportedProgram, metadata: Mapping[str, Any], path: Path, cores: int) -> Infer:
    import onnxruntime

    write_onnx(program, metadata, path)
    options = onnxruntime.SessionOptions()
    # Half of the cores are left to those who read, decode and write requests, and threads that wait for each other
    # do not spin.
    options.intra_op_num_threads = max(1, cores // 2)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def infer(images: Images) -> Logits:
        logits: Logits = session.run(None, {INPUT: images})[0]
        return logits

    return infer


def _check_alike(a: Infer, b: Infer, probe: Images) -> None:
    for images in (probe[:1], probe):
        expected, found = a(images), b(images)
        limit = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        if (difference := float(np.abs(expected - found).max())) > limit:
            raise ModelError(f"its logits differ by {difference:.3g} from torch's")


def _measure(candidates: Mapping[Kind, Infer], probe: Images) -> dict[Kind, float]:
    """The seconds that the candidates take, measured in turn: other work on the machine meets all of them."""
    batches = [np.resize(probe, (size, *probe.shape[1:])) for size in BATCHES]
    seconds: dict[Kind, list[float]] = {kind: [] for kind in candidates}
    for _ in range(ROUNDS):
        for kind, infer in candidates.items():
            seconds[kind].append(float(np.mean([_seconds(infer, images) / len(images) for images in batches])))
    return {kind: float(np.median(found)) for kind, found in seconds.items()}


def _seconds(infer: Infer, images: Images) -> float:
    """The median of some calls; the first, which chooses kernels, does not count."""
    infer(images)
    found: list[float] = []
    while len(found) < CALLS and (not found or sum(found) < ROUND_SECONDS):
        start = time.perf_counter()
        infer(images)
        found.append(time.perf_counter() - start)
    return float(np.median(found))
