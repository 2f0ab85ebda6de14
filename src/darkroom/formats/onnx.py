"""A model as an ONNX file: raw uint8 pixels in, logits out, any number of images at once."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from darkroom.errors import ModelError, first_line
from darkroom.evaluation.logits import LogitsFunction
from darkroom.utils.files import atomic_file

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT = "image"
OUTPUT = "logits"
BATCH = "batch"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
EXTRA = "pip install --editable '.[onnx]'"
# ONNX Runtime's fatal errors only: what it refuses is raised as well.
SILENT = 4


def check_installed() -> None:
    """Raises ModelError if a package that writes or reads ONNX is missing."""
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError as problem:
            raise ModelError(f"the ONNX format needs {package}, which is missing ({problem}); run `{EXTRA}`") from None


def write_onnx(program: ExportedProgram, metadata: Mapping[str, Any], path: Path) -> None:
    """Write ``program``, of one input uint8 [N, C, H, W], as ONNX. ``metadata`` goes into the file, values as JSON.

    Raises ModelError if the program has a step that ONNX lacks, or a package is missing.
    """
    check_installed()
    try:
        made = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: BATCH},),
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as problem:
        raise ModelError(f"this model cannot be written as ONNX ({first_line(problem)})") from None
    assert made is not None
    proto = made.model_proto
    # The exporter writes down which line of whose directory each node came from.
    for noted in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del noted.metadata_props[:]
    save_onnx(proto, metadata, path)


def save_onnx(proto: "ModelProto", metadata: Mapping[str, Any], path: Path) -> None:
    """Write an ONNX model with ``metadata``, values as JSON."""
    import onnx

    onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in metadata.items()})
    with atomic_file(path) as partial:
        onnx.save(proto, partial)


def read_onnx(path: Path) -> LogitsFunction:
    """Load an ONNX file, to run in ONNX Runtime on the CPU with its defaults. Raises ModelError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # theirs have no class of their own
        raise ModelError(f"ONNX Runtime cannot read this model ({first_line(problem)})") from None

    def model(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])

    return model
