"""A model as an ONNX file: raw uint8 pixels in, logits out, any number of images at once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from darkroom.files import atomic_file

INPUT, OUTPUT = "image", "logits"


def write_onnx(program: ExportedProgram, metadata: Mapping[str, Any], path: Path) -> None:
    """Write ``program``, of one input uint8 [N, C, H, W], as ONNX. ``metadata`` goes into the file, values as JSON."""
    import onnx

    made = torch.onnx.export(program, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False)
    assert made is not None
    proto = made.model_proto
    onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in metadata.items()})
    with atomic_file(path) as partial:
        onnx.save(proto, partial)
