"""A classifier as an exported program: its graph and weights, without the code that made them."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from darkroom.evaluation.logits import LogitsFunction

METADATA = "metadata.json"
# From an example of one image the graph would take the batch for fixed.
EXAMPLE_IMAGES = 4


def trace(classifier: nn.Module, shape: tuple[int, int, int]) -> ExportedProgram:
    """The program of a classifier (or its body) in evaluation mode, for uint8 images [N, *shape], N of any size."""
    example = torch.zeros(EXAMPLE_IMAGES, *shape, dtype=torch.uint8)
    # As MLflow holds it: the order in memory that training is faster with is no part of a model.
    plain = copy.deepcopy(classifier).to(memory_format=torch.contiguous_format)
    return torch.export.export(plain, (example,), dynamic_shapes=({0: Dim("batch")},))


def write_pt2(program: ExportedProgram, metadata: Mapping[str, Any], path: Path) -> None:
    """Write a program with ``metadata`` as the extra file metadata.json, which torch.export.load reads.

    The program loses what it does not need: the images that it was traced with, and paths of source files.
    """
    program.example_inputs = None
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    torch.export.save(program, path, extra_files={METADATA: json.dumps(metadata)})


def read_pt2(path: Path) -> LogitsFunction:
    """Load the model in a file of an exported program."""
    return torch.export.load(path).module()
